// Signs a copy of the helper for Hypervisor.framework: ad hoc, which is for this machine alone. See
// signed-helper.ts for where it lies.
import { execFile } from "node:child_process";
import { chmod, copyFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type ArtifactFile, digestFile, verifyExecutable } from "./artifact-digest.js";
import { findHelper, requireFile } from "./artifacts.js";
import { SandboxError } from "./errors.js";
import { type Machine, thisMachine } from "./machine.js";
import { signedPaths } from "./signed-helper.js";

const run = promisify(execFile);
/** Milliseconds that codesign may take. */
const CODESIGN_MS = 60_000;
/** The entitlement that Hypervisor.framework asks for. */
const ENTITLEMENT = "com.apple.security.hypervisor";

/**
 * Signs the helper and returns the path of the signed copy. Rejects with `platform-unsupported` on
 * another system, `artifact-missing` and `artifact-invalid` where the helper package is, and
 * `signing-failed` when codesign is missing, fails, or leaves the entitlement out.
 */
export async function setupMacos(machine: Machine = thisMachine()): Promise<string> {
  if (machine.platform !== "darwin") {
    throw new SandboxError(
      "platform-unsupported",
      `setup-macos signs the helper for macOS; this machine runs ${machine.platform}`,
      { remedy: "Nothing has to be signed here; `lanebox doctor` tells what this machine can run" },
    );
  }
  const { directory, host } = findHelper(machine, { signed: false });
  await verifyExecutable(host);
  const entitlements = join(directory, "entitlements.plist");
  requireFile(entitlements);
  try {
    return await sign(directory, host, entitlements);
  } catch (cause) {
    if (cause instanceof SandboxError) throw cause;
    throw failed(`The signed copy of ${host.path} cannot be made: ${cause}`, cause);
  }
}

async function sign(directory: string, host: ArtifactFile, entitlements: string): Promise<string> {
  const paths = signedPaths(directory);
  const staging = await mkdtemp(join(directory, ".signing-"));
  try {
    const copy = join(staging, "sandbox-host");
    await copyFile(host.path, copy);
    await chmod(copy, 0o755);
    await codesign(["--sign", "-", "--force", "--entitlements", entitlements, copy]);
    await codesign(["--verify", "--strict", copy]);
    const shown = await codesign(["--display", "--entitlements", "-", "--xml", copy]);
    if (!shown.includes(ENTITLEMENT)) {
      throw failed(`codesign left the entitlement ${ENTITLEMENT} out of ${copy}`);
    }
    const { digest, sizeBytes } = await digestFile(copy);
    const sha256 = digest.replace(/^sha256:/, "");
    const descriptor = { schema: 1, from: host.digest, sha256, sizeBytes };
    await writeFile(join(staging, "signed.json"), `${JSON.stringify(descriptor)}\n`);
    await chmod(staging, 0o755);
    await rm(paths.folder, { recursive: true, force: true });
    await rename(staging, paths.folder);
    return paths.host;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Runs codesign and returns what it printed. */
async function codesign(args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await run("codesign", args, { timeout: CODESIGN_MS });
    return stdout + stderr;
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string };
    if (code === "ENOENT") throw failed("codesign is not installed", cause);
    const words = stderr?.trim() || String(cause);
    throw failed(`codesign ${args[0]} failed: ${words.slice(-2000)}`, cause);
  }
}

function failed(message: string, cause?: unknown): SandboxError {
  return new SandboxError("signing-failed", message, {
    cause,
    remedy:
      "Run: xcode-select --install, see to it that the package's folder is writable for you, and try again",
  });
}
