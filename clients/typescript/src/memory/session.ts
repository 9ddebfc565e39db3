// A tree as one mount uses it: the callback interface, no symlink followed. What a mount changes is
// told to everybody but itself.
import { fileError } from "../mounts/errno.js";
import type {
  FileStat,
  FileSystemSizes,
  FileTimes,
  OnChange,
  ReadRequest,
  RenameFlag,
  WriteRequest,
} from "../mounts/file-system.js";
import { binary, bytes, partsOf } from "../mounts/names.js";
import type { ServedFileSystem } from "../mounts/served.js";
import { SIZE_MAX } from "./content.js";
import type { AnyNode } from "./node.js";
import { entryOf, type MemoryEntry, sizesOf, statOf } from "./stat.js";
import type { Place, Tree } from "./tree.js";

/** The callbacks of one mount of a tree. */
export class MemorySession implements ServedFileSystem<Uint8Array> {
  readonly rawPaths = true;
  readonly renameFlags = true;
  readonly #tree: Tree;

  constructor(tree: Tree) {
    this.#tree = tree;
  }

  async stat(path: Uint8Array): Promise<FileStat> {
    return statOf(this.#at(path));
  }

  /** The names of this moment; what is told of each, of the moment when it is asked for. */
  async list(path: Uint8Array): Promise<Iterable<MemoryEntry>> {
    return told([...this.#tree.list(this.#at(path))]);
  }

  async read({ path, range }: ReadRequest<Uint8Array>): Promise<Uint8Array> {
    return this.#tree.read(this.#at(path), range?.offset ?? 0, range?.length ?? SIZE_MAX);
  }

  async createFile(path: Uint8Array, options: { mode?: number } = {}): Promise<FileStat> {
    const node = this.#tree.createFile(this.#place(path), options.mode ?? 0o644);
    return this.#changed(statOf(node), path);
  }

  async write({ path, offset, contents }: WriteRequest<Uint8Array>): Promise<number> {
    return this.#changed(this.#tree.write(this.#at(path), offset, contents), path);
  }

  async truncate(path: Uint8Array, sizeBytes: number): Promise<FileStat> {
    return this.#changed(statOf(this.#tree.truncate(this.#at(path), sizeBytes)), path);
  }

  async mkdir(path: Uint8Array, options: { mode?: number } = {}): Promise<void> {
    this.#tree.mkdir(this.#place(path), options.mode ?? 0o755);
    this.#changed(undefined, path);
  }

  async mknod(
    path: Uint8Array,
    options: { type: "fifo" | "socket"; mode?: number },
  ): Promise<void> {
    this.#tree.mknod(this.#place(path), options.type, options.mode ?? 0o644);
    this.#changed(undefined, path);
  }

  async unlink(path: Uint8Array): Promise<void> {
    this.#changed(this.#tree.unlink(this.#place(path)), path);
  }

  async rmdir(path: Uint8Array): Promise<void> {
    this.#changed(this.#tree.rmdir(this.#place(path)), path);
  }

  async rename(from: Uint8Array, to: Uint8Array, flag?: RenameFlag): Promise<void> {
    this.#changed(this.#tree.rename(this.#place(from), this.#place(to), flag), from, to);
  }

  async link(path: Uint8Array, newPath: Uint8Array): Promise<void> {
    this.#changed(this.#tree.link(this.#at(path), this.#place(newPath)), newPath);
  }

  async symlink(target: Uint8Array, path: Uint8Array): Promise<void> {
    this.#tree.symlink(binary(target), this.#place(path));
    this.#changed(undefined, path);
  }

  async readlink(path: Uint8Array): Promise<Uint8Array> {
    return bytes(this.#tree.readlink(this.#at(path)));
  }

  async chmod(path: Uint8Array, mode: number): Promise<void> {
    this.#changed(this.#tree.chmod(this.#at(path), mode), path);
  }

  async chown(path: Uint8Array, uid: number, gid: number): Promise<void> {
    this.#changed(this.#tree.chown(this.#at(path), uid, gid), path);
  }

  async utimes(path: Uint8Array, times: FileTimes): Promise<void> {
    this.#changed(this.#tree.utimes(this.#at(path), times), path);
  }

  async setxattr(
    path: Uint8Array,
    name: Uint8Array,
    value: Uint8Array,
    flag?: "create" | "replace",
  ): Promise<void> {
    this.#changed(this.#tree.setxattr(this.#at(path), binary(name), value, flag), path);
  }

  async getxattr(path: Uint8Array, name: Uint8Array): Promise<Uint8Array> {
    return this.#at(path).getXattr(binary(name));
  }

  async listxattr(path: Uint8Array): Promise<readonly Uint8Array[]> {
    return this.#at(path).xattrNames().map(bytes);
  }

  async removexattr(path: Uint8Array, name: Uint8Array): Promise<void> {
    this.#changed(this.#tree.removexattr(this.#at(path), binary(name)), path);
  }

  async fsync(path: Uint8Array): Promise<void> {
    this.#at(path); // memory is as durable as it gets
  }

  async statfs(): Promise<FileSystemSizes> {
    return sizesOf(this.#tree.budget);
  }

  /** Tells of each path and of its directory, where a name may have come or gone. */
  watch(onChange: OnChange<Uint8Array>): () => void {
    const listener = (paths: readonly string[], by: unknown) => {
      if (by !== this) onChange(paths.flatMap((path) => [bytes(path), bytes(directoryOf(path))]));
    };
    this.#tree.listeners.add(listener);
    return () => this.#tree.listeners.delete(listener);
  }

  #place(path: Uint8Array): Place {
    return this.#tree.walk(partsOf(binary(path)));
  }

  #at(path: Uint8Array): AnyNode {
    if (path.byteLength === 0) throw fileError("ENOENT", "an empty path");
    return this.#tree.at(this.#place(path));
  }

  #changed<T>(result: T, ...paths: readonly Uint8Array[]): T {
    if (this.#tree.listeners.size > 1) this.#tree.changed(paths.map(binary), this);
    return result;
  }
}

function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

function* told(entries: readonly (readonly [string, AnyNode])[]): Generator<MemoryEntry> {
  for (const [name, node] of entries) yield entryOf(name, node);
}
