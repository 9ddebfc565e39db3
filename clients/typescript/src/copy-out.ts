// copyOut: a tree of the guest, made on the host from one ReadTree call.
//
// The guest is hostile. The helper lets only trees through whose names are names and whose entries
// come after the directory that they are in (lanebox/v1/file.proto). Here every entry is made new: a
// directory that is there is used only when it is one and no symlink, and anything else is replaced,
// never opened. So nothing is written through a symlink, whoever made it.
import {
  chmod,
  constants,
  type FileHandle,
  lstat,
  lutimes,
  mkdir,
  open,
  symlink,
  unlink,
} from "node:fs/promises";
import { type CheckedCopyOptions, CopyCount, type CopyResult } from "./copy-options.js";
import { SandboxError } from "./errors.js";
import type { TreeEntry, TreePiece } from "./gen/lanebox/v1/file_pb.js";
import type { FileStat } from "./gen/lanebox/v1/filesystem_pb.js";
import { fileStat } from "./guest-file-stat.js";
import type { Lane } from "./lane.js";

const SLASH = 0x2f;

/** Copies; arguments are checked already. */
export async function copyOut(
  lane: Lane,
  path: Uint8Array,
  to: string,
  options: CheckedCopyOptions,
): Promise<CopyResult> {
  const count = new CopyCount(options);
  const tree = new HostTree(Buffer.from(to), count);
  try {
    const answers = lane.fileStream(options.signal, (files, call) =>
      files.readTree({ path }, call),
    );
    for await (const { piece } of answers) if (piece !== undefined) await tree.take(piece);
    await tree.finish();
  } finally {
    await tree.release();
  }
  return count.result();
}

/** A tree that is being made. */
class HostTree {
  readonly #root: Buffer;
  readonly #count: CopyCount;
  /** Those that the next entry may be in. They get modes and times when nothing more comes. */
  readonly #directories: { name: Uint8Array; path: Buffer; stat: FileStat }[] = [];
  #file: { handle: FileHandle; at: number; stat: FileStat } | undefined;

  constructor(root: Buffer, count: CopyCount) {
    this.#root = root;
    this.#count = count;
  }

  async take({ piece }: TreePiece): Promise<void> {
    if (piece.case === "entry") return this.#entry(piece.value);
    if (piece.case === undefined) return;
    const file = this.#file;
    if (file === undefined) throw new SandboxError("internal", "Content came without a file");
    const length = piece.case === "data" ? piece.value.byteLength : Number(piece.value);
    if (piece.case === "data") await writeAll(file.handle, piece.value, file.at);
    file.at += length;
    this.#count.content(length);
  }

  async finish(): Promise<void> {
    await this.#finishFile();
    while (this.#directories.length > 0) await this.#finishDirectory();
  }

  /** Closes what is open, after a failure. */
  async release(): Promise<void> {
    await this.#file?.handle.close().catch(() => undefined);
    this.#file = undefined;
  }

  async #entry(entry: TreeEntry): Promise<void> {
    await this.#finishFile();
    for (let last = this.#directories.at(-1); last; last = this.#directories.at(-1)) {
      if (isInside(entry.path, last.name)) break;
      await this.#finishDirectory();
    }
    const { stat } = entry;
    const { type } = fileStat(stat);
    if (stat === undefined) return;
    const path =
      entry.path.byteLength === 0
        ? this.#root
        : Buffer.concat([this.#root, Buffer.from("/"), entry.path]);
    if (type === "directory") {
      this.#count.entry();
      await makeDirectory(path);
      this.#directories.push({ name: Uint8Array.from(entry.path), path, stat });
    } else if (type === "file") {
      this.#count.entry();
      await makeRoom(path);
      const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
      const handle = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      this.#file = { handle, at: 0, stat };
    } else if (type === "symlink") {
      this.#count.entry();
      await makeRoom(path);
      await symlink(Buffer.from(entry.target), path);
      const { accessed, modified } = times(stat);
      await lutimes(path, accessed, modified);
    } else {
      this.#count.skipped += 1;
    }
  }

  async #finishFile(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    const { handle, at, stat } = file;
    await handle.truncate(at);
    await handle.chmod(modeOf(stat));
    const { accessed, modified } = times(stat);
    await handle.utimes(accessed, modified);
    this.#file = undefined;
    await handle.close();
  }

  async #finishDirectory(): Promise<void> {
    const directory = this.#directories.pop();
    if (directory === undefined) return;
    await chmod(directory.path, modeOf(directory.stat));
    const { accessed, modified } = times(directory.stat);
    await lutimes(directory.path, accessed, modified);
  }
}

/** Whether `name` is below the directory `directory` of the tree. */
function isInside(name: Uint8Array, directory: Uint8Array): boolean {
  if (directory.byteLength === 0) return true;
  const start = name.subarray(0, directory.byteLength);
  return Buffer.compare(start, directory) === 0 && name[directory.byteLength] === SLASH;
}

/** A program of the guest must not become a set-user-id program of the host. */
function modeOf(stat: FileStat): number {
  return (stat.mode ?? 0o644) & 0o777;
}

function times(stat: FileStat): { accessed: number; modified: number } {
  const modified = Number(stat.modified?.seconds ?? 0n) + (stat.modified?.nanos ?? 0) / 1e9;
  return { accessed: Date.now() / 1000, modified };
}

async function makeDirectory(path: Buffer): Promise<void> {
  try {
    await mkdir(path, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (!(await lstat(path)).isDirectory()) throw error;
  }
}

/** Removes what is there, unless it is a directory. */
async function makeRoom(path: Buffer): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

async function writeAll(handle: FileHandle, data: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < data.byteLength; ) {
    const { bytesWritten } = await handle.write(data, done, data.byteLength - done, at + done);
    done += bytesWritten;
  }
}
