// A POSIX tree: names, files, and the rules of both (POSIX.1-2017, and Linux where that is silent).
// Synchronous, by places that a path was walked to; permissions are the guest kernel's to check.
import { fileError } from "../mounts/errno.js";
import type { FileTimes, RenameFlag } from "../mounts/file-system.js";
import { lossy, NAME_MAX } from "../mounts/names.js";
import { nanoseconds } from "../mounts/times.js";
import { Budget } from "./budget.js";
import { type AnyNode, DirectoryNode, FileNode, SpecialNode, SymlinkNode } from "./node.js";

/** Bytes of a symlink's target, at most. */
const TARGET_MAX = 4095;
const SET_GROUP = 0o2000;

/** A name in a directory: whether there is something is another question. */
export interface Place {
  readonly parent: DirectoryNode;
  /** A binary string; empty for the root. */
  readonly name: string;
}

/** Tells of a change: the paths, as binary strings, and who made it. */
export type ChangeListener = (paths: readonly string[], by: unknown) => void;

/** The tree. */
export class Tree {
  readonly budget: Budget;
  readonly root: DirectoryNode;
  readonly listeners = new Set<ChangeListener>();
  readonly #clock: () => bigint;
  #nextIno = 1;

  /** `clock` tells nanoseconds since 1970. */
  constructor(maxBytes: number, maxNames: number, clock: () => bigint) {
    this.budget = new Budget(maxBytes, maxNames);
    this.#clock = clock;
    this.root = new DirectoryNode(this.#ino(), 0o755, clock(), this.budget);
  }

  /** Tells who listens. */
  changed(paths: readonly string[], by: unknown): void {
    for (const listener of this.listeners) listener(paths, by);
  }

  /** Goes down from the root by names; no symlink is followed. The last name need not be there. */
  walk(parts: readonly string[]): Place {
    let parent = this.root;
    for (let i = 0; i < parts.length - 1; i++)
      parent = directory(this.child(parent, parts[i] ?? ""));
    return { parent, name: parts.at(-1) ?? "" };
  }

  /** What is at a place. Throws ENOENT. */
  at({ parent, name }: Place): AnyNode {
    return name === "" ? parent : this.child(parent, name);
  }

  /** What a directory has under a name. Throws ENOENT. */
  child(parent: DirectoryNode, name: string): AnyNode {
    const node = parent.entries.get(name);
    if (node === undefined) throw absent(name);
    return node;
  }

  createFile(place: Place, mode: number): FileNode {
    return this.#make(place, (now) => new FileNode(this.#ino(), mode, now, this.budget));
  }

  mkdir(place: Place, mode: number): DirectoryNode {
    const made = this.#make(place, (now) => new DirectoryNode(this.#ino(), mode, now, this.budget));
    made.parent = place.parent;
    made.name = place.name;
    place.parent.nlink += 1;
    if (place.parent.mode & SET_GROUP) made.mode |= SET_GROUP;
    return made;
  }

  mknod(place: Place, type: "fifo" | "socket", mode: number): SpecialNode {
    return this.#make(place, (now) => new SpecialNode(type, this.#ino(), mode, now, this.budget));
  }

  symlink(target: string, place: Place): SymlinkNode {
    if (target === "" || target.includes("\0")) throw fileError("ENOENT", "an empty target");
    if (target.length > TARGET_MAX) throw fileError("ENAMETOOLONG", "the target is too long");
    return this.#make(place, (now) => new SymlinkNode(this.#ino(), target, now, this.budget));
  }

  link(node: AnyNode, place: Place): void {
    this.#requireFree(place);
    if (node instanceof DirectoryNode) throw fileError("EPERM", "a directory has one name");
    this.budget.takeName();
    const now = this.#clock();
    node.nlink += 1;
    node.changed = now;
    place.parent.entries.set(place.name, node);
    place.parent.touch(now);
  }

  unlink(place: Place): void {
    const node = this.at(place);
    if (node instanceof DirectoryNode) throw fileError("EISDIR", `'${lossy(place.name)}'`);
    this.#detach(place, node, this.#clock());
  }

  rmdir(place: Place): void {
    const node = directory(this.at(place));
    if (node === this.root) throw fileError("EBUSY", "the root stays");
    if (node.entries.size > 0) throw fileError("ENOTEMPTY", `'${lossy(place.name)}'`);
    this.#detach(place, node, this.#clock());
  }

  rename(from: Place, to: Place, flag: RenameFlag | undefined): void {
    const node = this.at(from);
    if (from.name === "" || to.name === "") throw fileError("EBUSY", "the root stays");
    if (isWithin(to.parent, node)) throw fileError("EINVAL", "a directory cannot go into itself");
    const target = to.parent.entries.get(to.name);
    if (flag === "exchange") {
      this.#exchange([from, node], to);
      return;
    }
    if (target !== undefined) {
      if (flag === "no-replace") throw exists(to.name);
      if (isWithin(from.parent, target)) throw fileError("ENOTEMPTY", `'${lossy(to.name)}'`);
      if (target === node) return;
      requireReplaceable(node, target);
    } else {
      requireName(to);
    }
    const now = this.#clock();
    if (target !== undefined) this.#detach(to, target, now);
    from.parent.entries.delete(from.name);
    this.#attach([node, from.parent], to, now);
    from.parent.touch(now);
  }

  /** Cuts, or grows with zeros. */
  truncate(node: AnyNode, size: number): FileNode {
    const file = regular(node);
    file.content.resize(size);
    file.touch(this.#clock());
    return file;
  }

  write(node: AnyNode, offset: number, contents: Uint8Array): number {
    const file = regular(node);
    const written = file.content.write(offset, contents);
    if (written > 0) file.touch(this.#clock());
    return written;
  }

  read(node: AnyNode, offset: number, length: number): Buffer {
    const file = regular(node);
    const data = file.content.read(offset, length);
    if (length > 0) file.access(this.#clock());
    return data;
  }

  list(node: AnyNode): ReadonlyMap<string, AnyNode> {
    const found = directory(node);
    found.access(this.#clock());
    return found.entries;
  }

  readlink(node: AnyNode): string {
    if (!(node instanceof SymlinkNode)) throw fileError("EINVAL", "it is no symlink");
    node.access(this.#clock());
    return node.target;
  }

  chmod(node: AnyNode, mode: number): void {
    if (node instanceof SymlinkNode) throw fileError("EOPNOTSUPP", "a symlink has no mode");
    node.mode = mode & 0o7777;
    node.changed = this.#clock();
  }

  chown(node: AnyNode, uid: number, gid: number): void {
    node.uid = uid;
    node.gid = gid;
    node.changed = this.#clock();
  }

  utimes(node: AnyNode, times: FileTimes): void {
    const accessed = nanoseconds(times.accessedAtNs, times.accessedAtMs);
    const modified = nanoseconds(times.modifiedAtNs, times.modifiedAtMs);
    node.accessed = accessed ?? node.accessed;
    node.modified = modified ?? node.modified;
    node.changed = this.#clock();
  }

  setxattr(
    node: AnyNode,
    name: string,
    value: Uint8Array,
    flag: "create" | "replace" | undefined,
  ): void {
    node.setXattr(name, value, flag);
    node.changed = this.#clock();
  }

  removexattr(node: AnyNode, name: string): void {
    node.removeXattr(name);
    node.changed = this.#clock();
  }

  #ino(): number {
    return this.#nextIno++;
  }

  #make<T extends AnyNode>(place: Place, create: (now: bigint) => T): T {
    this.#requireFree(place);
    this.budget.takeName();
    const now = this.#clock();
    let node: T;
    try {
      node = create(now);
    } catch (error) {
      this.budget.freeName();
      throw error;
    }
    if (place.parent.mode & SET_GROUP) node.gid = place.parent.gid;
    place.parent.entries.set(place.name, node);
    place.parent.touch(now);
    return node;
  }

  #requireFree(place: Place): void {
    if (place.name === "" || place.parent.entries.has(place.name)) throw exists(place.name);
    requireName(place);
  }

  /** Takes a name away; with the last one goes the file. */
  #detach({ parent, name }: Place, node: AnyNode, now: bigint): void {
    parent.entries.delete(name);
    parent.touch(now);
    this.budget.freeName();
    node.changed = now;
    if (node instanceof DirectoryNode) {
      parent.nlink -= 1;
      node.nlink = 0;
    } else {
      node.nlink -= 1;
    }
    if (node.nlink === 0) node.release();
  }

  /** Gives a file that was in `old` its new place. */
  #attach([node, old]: readonly [AnyNode, DirectoryNode], to: Place, now: bigint): void {
    to.parent.entries.set(to.name, node);
    to.parent.touch(now);
    node.changed = now;
    if (node instanceof DirectoryNode) {
      old.nlink -= 1;
      to.parent.nlink += 1;
      node.parent = to.parent;
      node.name = to.name;
    }
  }

  #exchange([from, node]: readonly [Place, AnyNode], to: Place): void {
    const other = this.at(to);
    if (isWithin(from.parent, other)) {
      throw fileError("EINVAL", "a directory cannot go into itself");
    }
    const now = this.#clock();
    this.#attach([node, from.parent], to, now);
    this.#attach([other, to.parent], from, now);
  }
}

/** Whether a directory is `node` or somewhere below it. */
function isWithin(directory: DirectoryNode, node: AnyNode): boolean {
  for (let at = directory; ; at = at.parent) {
    if (at === node) return true;
    if (at.parent === at) return false;
  }
}

function requireReplaceable(node: AnyNode, target: AnyNode): void {
  const isDirectory = target instanceof DirectoryNode;
  if (node instanceof DirectoryNode && !isDirectory) throw fileError("ENOTDIR", "the target");
  if (!(node instanceof DirectoryNode) && isDirectory) throw fileError("EISDIR", "the target");
  if (isDirectory && target.entries.size > 0) throw fileError("ENOTEMPTY", "the target");
}

function requireName({ parent, name }: Place): void {
  if (name.length > NAME_MAX) throw fileError("ENAMETOOLONG", `'${lossy(name).slice(0, 40)}…'`);
  if (parent.nlink === 0) throw absent(name); // a directory that is gone gets no names
}

/** The same node as a directory. Throws ENOTDIR. */
export function directory(node: AnyNode): DirectoryNode {
  if (node instanceof DirectoryNode) return node;
  throw fileError("ENOTDIR", "it is no directory");
}

/** The same node as a regular file. Throws EISDIR for a directory, EINVAL for what has no content. */
export function regular(node: AnyNode): FileNode {
  if (node instanceof FileNode) return node;
  const isDirectory = node instanceof DirectoryNode;
  throw fileError(isDirectory ? "EISDIR" : "EINVAL", "it is no regular file");
}

function absent(name: string): Error {
  return fileError("ENOENT", `there is no '${lossy(name)}'`);
}

function exists(name: string): Error {
  return fileError("EEXIST", `'${lossy(name)}' is there already`);
}
