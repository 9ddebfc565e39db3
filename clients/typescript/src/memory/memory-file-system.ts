// The JavaScript side of a tree in memory. What it changes is told to every guest that has mounted it.
import { fileError } from "../mounts/errno.js";
import type {
  FileSystem,
  FileTimes,
  OnChange,
  ReadRequest,
  RenameFlag,
  WriteRequest,
} from "../mounts/file-system.js";
import { binary, bytes, type PathLike, text } from "../mounts/names.js";
import { SIZE_MAX } from "./content.js";
import { type AnyNode, DirectoryNode } from "./node.js";
import { MemorySession } from "./session.js";
import {
  entryOf,
  type MemoryEntry,
  type MemorySizes,
  type MemoryStat,
  sizesOf,
  statOf,
} from "./stat.js";
import { directory, type Place, type Tree } from "./tree.js";
import { givenPath, pathOf, placeOf, walk } from "./walker.js";

/** The largest number of a user or group; the one after it means "none". */
const ID_MAX = 2 ** 32 - 2;

/** Options of `writeFile`. */
export interface WriteFileOptions {
  /** Permission bits of a file that is new, 0o644 without this; a file that is there gets them too when this is given. */
  readonly mode?: number | undefined;
  /** Makes the directories that are missing on the way. */
  readonly createParents?: boolean | undefined;
}

/**
 * A POSIX tree in memory, made by `fs.memory`: the caller's program uses it by these methods, before
 * a boot, while any number of guests have it mounted, and after they are closed.
 *
 * A path is a string, or bytes where a name is not UTF-8; it may begin with `/`, goes from the root
 * of the tree either way, and symlinks on its way are followed within the tree. A symlink at its end
 * is followed by `readFile`, `read`, `writeFile`, `appendFile`, `write`, `truncate`, `list` and
 * `chmod`, and by nothing else. Errors are of code `file-error`, with the Linux name in `errno`.
 * Permissions are not checked here, as for root.
 */
export class MemoryFileSystem implements FileSystem<PathLike> {
  /** @internal */
  readonly rawPaths = true;
  /** @internal */
  readonly renameFlags = true;
  readonly #tree: Tree;

  /** @internal */
  constructor(tree: Tree) {
    this.#tree = tree;
  }

  /** @internal The callbacks for one mount. */
  open(): MemorySession {
    return new MemorySession(this.#tree);
  }

  /** The content of a file; as text with an encoding. */
  readFile(path: PathLike): Promise<Buffer>;
  readFile(path: PathLike, encoding: BufferEncoding): Promise<string>;
  async readFile(path: PathLike, encoding?: BufferEncoding): Promise<Buffer | string> {
    if (encoding !== undefined && !Buffer.isEncoding(encoding)) {
      throw fileError("EINVAL", `there is no encoding '${encoding}'`);
    }
    const data = this.#tree.read(this.#at(path, true), 0, SIZE_MAX);
    return encoding === undefined ? data : data.toString(encoding);
  }

  /** Replaces the content of a file, or makes it. When there is no room, the file is as it was. */
  async writeFile(
    path: PathLike,
    data: string | Uint8Array,
    options: WriteFileOptions = {},
  ): Promise<void> {
    this.writeFileNow(path, data, options);
  }

  /** @internal */
  writeFileNow(path: PathLike, data: string | Uint8Array, options: WriteFileOptions = {}): void {
    const contents = contentsOf(data);
    if (options.createParents) this.#makeParents(path);
    const place = this.#place(path, true);
    const before = this.#there(place);
    const file = before ?? this.#tree.createFile(place, options.mode ?? 0o644);
    const old = before && this.#tree.read(before, 0, SIZE_MAX);
    try {
      this.#tree.truncate(file, 0);
      if (this.#tree.write(file, 0, contents) < contents.byteLength) {
        throw fileError("ENOSPC", "there is no room for all of it");
      }
    } catch (error) {
      if (old === undefined) this.#tree.unlink(place);
      else {
        this.#tree.truncate(file, 0);
        this.#tree.write(file, 0, old);
      }
      throw error;
    }
    if (before !== undefined && options.mode !== undefined) this.#tree.chmod(file, options.mode);
    this.#changed(undefined, place);
  }

  /** Adds to the end of a file, or makes it. */
  async appendFile(path: PathLike, data: string | Uint8Array): Promise<void> {
    const contents = contentsOf(data);
    const place = this.#place(path, true);
    const file = this.#there(place) ?? this.#tree.createFile(place, 0o644);
    const { size } = file;
    const written = this.#tree.write(file, size, contents);
    if (written < contents.byteLength) {
      this.#tree.truncate(file, size);
      throw fileError("ENOSPC", "there is no room for all of it");
    }
    this.#changed(undefined, place);
  }

  /** Bytes of a file. */
  async read({ path, range }: ReadRequest<PathLike>): Promise<Buffer> {
    const { offset, length } = range ?? { offset: 0, length: SIZE_MAX };
    return this.#tree.read(this.#at(path, true), natural(offset), natural(length));
  }

  /** Writes into a file; how many bytes found room. */
  async write({ path, offset, contents }: WriteRequest<PathLike>): Promise<number> {
    const place = this.#place(path, true);
    const written = this.#tree.write(this.#tree.at(place), natural(offset), contentsOf(contents));
    return this.#changed(written, place);
  }

  /** Cuts a file, or grows it with zeros that take no room. */
  async truncate(path: PathLike, sizeBytes: number): Promise<MemoryStat> {
    const place = this.#place(path, true);
    const file = this.#tree.truncate(this.#tree.at(place), natural(sizeBytes));
    return this.#changed(statOf(file), place);
  }

  /** What is at the path, a symlink as itself. */
  async stat(path: PathLike): Promise<MemoryStat> {
    return statOf(this.#at(path, false));
  }

  /** Whether something is at the path, a symlink as itself. */
  async exists(path: PathLike): Promise<boolean> {
    try {
      this.#at(path, false);
      return true;
    } catch {
      return false;
    }
  }

  /** The entries of a directory, with everything that `stat` tells of them. */
  async list(path: PathLike): Promise<MemoryEntry[]> {
    const entries = this.#tree.list(this.#at(path, true));
    return Array.from(entries, ([name, node]) => entryOf(name, node));
  }

  /** Makes an empty file, which must not be there. */
  async createFile(
    path: PathLike,
    options: { readonly mode?: number | undefined } = {},
  ): Promise<MemoryStat> {
    const place = this.#place(path, false);
    return this.#changed(statOf(this.#tree.createFile(place, options.mode ?? 0o644)), place);
  }

  /** Makes a directory; with `recursive` also those on the way, and it may be there already. */
  async mkdir(
    path: PathLike,
    options: { readonly mode?: number | undefined; readonly recursive?: boolean | undefined } = {},
  ): Promise<void> {
    const mode = options.mode ?? 0o755;
    if (options.recursive) this.#makeAll(givenPath(path), mode);
    else {
      const place = this.#place(path, false);
      this.#changed(this.#tree.mkdir(place, mode), place);
    }
  }

  /** Makes a FIFO or a socket, for guests to use. */
  async mknod(
    path: PathLike,
    options: { readonly type: "fifo" | "socket"; readonly mode?: number | undefined },
  ): Promise<void> {
    const place = this.#place(path, false);
    const { type, mode } = options;
    if (type !== "fifo" && type !== "socket") throw fileError("EINVAL", `no type '${type}'`);
    this.#changed(this.#tree.mknod(place, type, mode ?? 0o644), place);
  }

  /** Removes a file, or a directory that is empty; with `recursive` a whole tree; with `force` nothing need be there. */
  async remove(
    path: PathLike,
    options: {
      readonly recursive?: boolean | undefined;
      readonly force?: boolean | undefined;
    } = {},
  ): Promise<void> {
    let place: Place;
    let node: AnyNode;
    try {
      place = this.#place(path, false);
      node = this.#tree.at(place);
    } catch (error) {
      if (options.force && (error as { errno?: string }).errno === "ENOENT") return;
      throw error;
    }
    if (place.name === "") throw fileError("EBUSY", "the root stays");
    if (node instanceof DirectoryNode) {
      if (options.recursive) this.#empty(node);
      this.#tree.rmdir(place);
    } else {
      this.#tree.unlink(place);
    }
    this.#changed(undefined, place);
  }

  /** Removes a name that is not a directory's. */
  async unlink(path: PathLike): Promise<void> {
    const place = this.#place(path, false);
    this.#changed(this.#tree.unlink(place), place);
  }

  /** Removes an empty directory. */
  async rmdir(path: PathLike): Promise<void> {
    const place = this.#place(path, false);
    this.#changed(this.#tree.rmdir(place), place);
  }

  /** Moves a name, replacing what is there, unless the flag says otherwise. */
  async rename(from: PathLike, to: PathLike, flag?: RenameFlag): Promise<void> {
    const places = [this.#place(from, false), this.#place(to, false)] as const;
    if (flag !== undefined && flag !== "no-replace" && flag !== "exchange") {
      throw fileError("EINVAL", `there is no flag '${flag}'`);
    }
    const before = pathOf(places[0]);
    this.#tree.rename(...places, flag);
    this.#tree.changed([before, pathOf(places[1])], undefined);
  }

  /** Gives the file at `path` one more name. */
  async link(path: PathLike, newPath: PathLike): Promise<void> {
    const node = this.#at(path, false);
    const place = this.#place(newPath, false);
    this.#changed(this.#tree.link(node, place), place);
  }

  /** Makes a symlink at `path` that holds `target`. */
  async symlink(target: PathLike, path: PathLike): Promise<void> {
    const place = this.#place(path, false);
    this.#changed(this.#tree.symlink(binary(target), place), place);
  }

  /** What a symlink holds. As text, EILSEQ when it is not UTF-8. */
  readlink(path: PathLike): Promise<string>;
  readlink(path: PathLike, encoding: "buffer"): Promise<Buffer>;
  async readlink(path: PathLike, encoding?: "buffer"): Promise<string | Buffer> {
    const target = this.#tree.readlink(this.#at(path, false));
    if (encoding === "buffer") return bytes(target);
    const result = text(target);
    if (result === undefined) throw fileError("EILSEQ", 'it is not UTF-8; ask for "buffer"');
    return result;
  }

  /** Sets permission bits, with set-id and sticky bits. */
  async chmod(path: PathLike, mode: number): Promise<void> {
    const place = this.#place(path, true);
    this.#changed(this.#tree.chmod(this.#tree.at(place), natural(mode)), place);
  }

  /** Sets both owners. The set-id bits of a file go, as in Linux. */
  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    const place = this.#place(path, false);
    const node = this.#tree.at(place);
    this.#tree.chown(node, natural(uid, ID_MAX), natural(gid, ID_MAX));
    if (node.type === "file") node.mode &= node.mode & 0o010 ? ~0o6000 : ~0o4000;
    this.#changed(undefined, place);
  }

  /** Sets the times that are given. */
  async utimes(path: PathLike, times: FileTimes): Promise<void> {
    const place = this.#place(path, false);
    this.#changed(this.#tree.utimes(this.#tree.at(place), times), place);
  }

  /** Sets an extended attribute, such as `user.note`. */
  async setxattr(
    path: PathLike,
    name: PathLike,
    value: Uint8Array,
    flag?: "create" | "replace",
  ): Promise<void> {
    const place = this.#place(path, false);
    const node = this.#tree.at(place);
    this.#changed(this.#tree.setxattr(node, binary(name), contentsOf(value), flag), place);
  }

  /** An extended attribute; ENODATA when it is not there. */
  async getxattr(path: PathLike, name: PathLike): Promise<Buffer> {
    return Buffer.from(this.#at(path, false).getXattr(binary(name)));
  }

  /** The names of all extended attributes. */
  async listxattr(path: PathLike): Promise<Buffer[]> {
    return this.#at(path, false).xattrNames().map(bytes);
  }

  /** Removes an extended attribute; ENODATA when it is not there. */
  async removexattr(path: PathLike, name: PathLike): Promise<void> {
    const place = this.#place(path, false);
    this.#changed(this.#tree.removexattr(this.#tree.at(place), binary(name)), place);
  }

  /** What there is and what is free. */
  async statfs(): Promise<MemorySizes> {
    return sizesOf(this.#tree.budget);
  }

  /**
   * Tells of every change, by guests and by this side, with paths from the root; until the function
   * that it returns is called. A path that is not UTF-8 comes as bytes.
   */
  watch(onChange: OnChange<PathLike>): () => void {
    if (typeof onChange !== "function") throw fileError("EINVAL", "expected a function");
    const listener = (paths: readonly string[]) => {
      try {
        onChange(paths.map((path) => text(path) ?? bytes(path)));
      } catch (error) {
        process.emitWarning(`A watcher of fs.memory threw: ${String(error)}`, "LaneboxWarning");
      }
    };
    this.#tree.listeners.add(listener);
    return () => this.#tree.listeners.delete(listener);
  }

  #place(path: PathLike, follow: boolean): Place {
    return walk(this.#tree, givenPath(path), follow);
  }

  #at(path: PathLike, follow: boolean): AnyNode {
    return this.#tree.at(this.#place(path, follow));
  }

  /** What is at a place, if anything. */
  #there(place: Place): AnyNode | undefined {
    return place.name === "" ? place.parent : place.parent.entries.get(place.name);
  }

  #changed<T>(result: T, place: Place): T {
    if (this.#tree.listeners.size > 0) this.#tree.changed([pathOf(place)], undefined);
    return result;
  }

  #makeParents(path: PathLike): void {
    const parts = givenPath(path).split("/");
    while (parts.at(-1) === "") parts.pop();
    this.#makeAll(parts.slice(0, -1).join("/"), 0o755);
  }

  #makeAll(path: string, mode: number): void {
    const parts = path.split("/").filter((part) => part !== "");
    for (let count = 1; count <= parts.length; count++) {
      const place = walk(this.#tree, parts.slice(0, count).join("/"), true);
      const there = this.#there(place);
      if (there !== undefined) directory(there);
      else this.#changed(this.#tree.mkdir(place, mode), place);
    }
  }

  /** Removes all that is in a directory, without recursion: a guest makes trees as deep as it likes. */
  #empty(top: DirectoryNode): void {
    const todo = [{ node: top, entries: top.entries[Symbol.iterator]() }];
    for (let last = todo.at(-1); last !== undefined; last = todo.at(-1)) {
      const { node, entries } = last;
      const next = entries.next();
      if (next.done) {
        todo.pop();
        if (node !== top) this.#tree.rmdir(placeOf(node));
        continue;
      }
      const [name, entry] = next.value;
      if (entry instanceof DirectoryNode) {
        todo.push({ node: entry, entries: entry.entries[Symbol.iterator]() });
      } else {
        this.#tree.unlink({ parent: node, name });
      }
    }
  }
}

function contentsOf(data: string | Uint8Array): Uint8Array {
  if (typeof data === "string") return Buffer.from(data, "utf8");
  if (data instanceof Uint8Array) return data;
  throw fileError("EINVAL", `contents are a string or a Uint8Array, not ${typeof data}`);
}

function natural(value: number, max = SIZE_MAX): number {
  if (Number.isSafeInteger(value) && value >= 0 && value <= max) return value;
  throw fileError("EINVAL", `expected a whole number from 0 to ${max}, got ${String(value)}`);
}
