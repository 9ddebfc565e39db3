// Comparing files with the digests that their descriptors give.
import { createHash } from "node:crypto";
import { type BigIntStats, constants } from "node:fs";
import { access, type FileHandle, open, stat } from "node:fs/promises";
import { SandboxError } from "./errors.js";

/** A file and what its digest must be. */
export interface ArtifactFile {
  /** Absolute. */
  readonly path: string;
  /** "sha256:" and 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** What makes a wrong artifact right. */
export const INSTALL_AGAIN =
  "Remove node_modules/@lanebox and install again; in a checkout of Lanebox run scripts/build";

/** Files that were found right, by path: which state of the file that was, and its digest. */
const verified = new Map<string, string>();

/**
 * Checks that a program is the file that its descriptor means and can be executed, before it is.
 * A digest that was right is believed for as long as the file's device, number, size and times are
 * the same; the first look reads the whole file. Rejects with `artifact-missing` or `artifact-invalid`.
 */
export async function verifyExecutable(program: ArtifactFile): Promise<void> {
  const { path, digest } = program;
  try {
    const state = `${digest} ${identity(await stat(path, { bigint: true }))}`;
    if (verified.get(path) !== state) {
      await compare(program);
      verified.set(path, state);
    }
    await access(path, constants.X_OK);
  } catch (cause) {
    if (cause instanceof SandboxError) throw cause;
    throw unusable(path, cause as NodeJS.ErrnoException);
  }
}

function unusable(path: string, cause: NodeJS.ErrnoException): SandboxError {
  const errno = cause.code;
  if (errno === "ENOENT") {
    const details = { errno, cause, remedy: INSTALL_AGAIN };
    return new SandboxError("artifact-missing", `There is no file ${path}`, details);
  }
  if (errno === "EACCES") {
    const remedy = `Run: chmod +x '${path}'; a filesystem that is mounted with noexec cannot hold it`;
    const details = { errno, cause, remedy };
    return new SandboxError("artifact-invalid", `${path} cannot be executed`, details);
  }
  const details = { errno, cause, remedy: INSTALL_AGAIN };
  return new SandboxError("artifact-invalid", `${path} cannot be read: ${errno ?? cause}`, details);
}

async function compare({ path, digest, sizeBytes }: ArtifactFile): Promise<void> {
  const found = await digestFile(path);
  if (found.sizeBytes !== sizeBytes || found.digest !== digest) {
    throw new SandboxError(
      "artifact-invalid",
      `${path} is not the file that its descriptor means: it has ${found.sizeBytes} bytes and the digest ${found.digest}, where ${sizeBytes} and ${digest} are expected`,
      { remedy: INSTALL_AGAIN },
    );
  }
}

/** Size and digest of a regular file, which is read piece by piece. Rejects with the system's errors. */
export async function digestFile(path: string): Promise<{ digest: string; sizeBytes: number }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await file.stat()).isFile()) throw new Error(`${path} is not a regular file`);
    return await digestOf(file);
  } finally {
    await file.close();
  }
}

async function digestOf(file: FileHandle): Promise<{ digest: string; sizeBytes: number }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  let sizeBytes = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, sizeBytes);
    if (bytesRead === 0) return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
    hash.update(buffer.subarray(0, bytesRead));
    sizeBytes += bytesRead;
  }
}

function identity({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
}
