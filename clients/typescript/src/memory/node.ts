// The files of a tree, as inodes: what belongs to a file whatever its names are.
import { fileError } from "../mounts/errno.js";
import type { FileType } from "../mounts/file-system.js";
import type { Budget } from "./budget.js";
import { Content } from "./content.js";

/** Nanoseconds of a day: how old an access time gets before an access renews it anyway. */
const DAY_NS = 86_400_000_000_000n;
/** Bytes of all names of attributes of one file (Linux, XATTR_LIST_MAX); so that they can be listed. */
const XATTR_NAMES_MAX = 64 * 1024;
/** Bytes of an attribute's value, at most (Linux, XATTR_SIZE_MAX). */
const XATTR_VALUE_MAX = 64 * 1024;
/** Bytes that an attribute costs beside its name and value. */
const XATTR_COST = 64;

/** A file of any type. Times are nanoseconds since 1970. */
abstract class Inode {
  abstract readonly type: FileType;
  readonly ino: number;
  mode: number;
  uid = 0;
  gid = 0;
  nlink = 1;
  accessed: bigint;
  modified: bigint;
  changed: bigint;
  #xattrs: Map<string, Buffer> | undefined;
  readonly #budget: Budget;

  constructor(ino: number, mode: number, now: bigint, budget: Budget) {
    this.ino = ino;
    this.mode = mode & 0o7777;
    this.accessed = now;
    this.modified = now;
    this.changed = now;
    this.#budget = budget;
  }

  abstract get size(): number;

  /** Bytes that its content takes. */
  get allocated(): number {
    return this.size;
  }

  /** The content has changed. */
  touch(now: bigint): void {
    this.modified = now;
    this.changed = now;
  }

  /** The content was read; noted as Linux does with `relatime`. */
  access(now: bigint): void {
    const stale = this.accessed <= this.modified || this.accessed <= this.changed;
    if (stale || now - this.accessed >= DAY_NS) this.accessed = now;
  }

  /** The last name is gone: everything is given back. */
  release(): void {
    for (const [name, value] of this.#xattrs ?? []) this.#budget.freeBytes(costOf(name, value));
    this.#xattrs = undefined;
  }

  getXattr(name: string): Buffer {
    const value = this.#xattrs?.get(name);
    if (value === undefined) throw fileError("ENODATA", "there is no such attribute");
    return value;
  }

  xattrNames(): string[] {
    return [...(this.#xattrs?.keys() ?? [])];
  }

  setXattr(name: string, value: Uint8Array, flag: "create" | "replace" | undefined): void {
    if (name === "" || name.length > 255) throw fileError("ERANGE", "an attribute's name");
    if (value.byteLength > XATTR_VALUE_MAX) throw fileError("E2BIG", "an attribute's value");
    const old = this.#xattrs?.get(name);
    if (flag === "create" && old !== undefined) throw fileError("EEXIST", "an attribute");
    if (flag === "replace" && old === undefined) throw fileError("ENODATA", "an attribute");
    const names = this.xattrNames().reduce((sum, { length }) => sum + length + 1, 0);
    if (old === undefined && names + name.length + 1 > XATTR_NAMES_MAX) {
      throw fileError("ENOSPC", "too many attributes");
    }
    const freed = old === undefined ? 0 : costOf(name, old);
    this.#budget.takeBytes(costOf(name, value) - freed);
    this.#xattrs ??= new Map();
    this.#xattrs.set(name, Buffer.from(value));
  }

  removeXattr(name: string): void {
    const value = this.getXattr(name);
    this.#budget.freeBytes(costOf(name, value));
    this.#xattrs?.delete(name);
  }
}

function costOf(name: string, value: Uint8Array): number {
  return XATTR_COST + name.length + value.byteLength;
}

/** A regular file. */
export class FileNode extends Inode {
  readonly type = "file";
  readonly content: Content;

  constructor(ino: number, mode: number, now: bigint, budget: Budget) {
    super(ino, mode, now, budget);
    this.content = new Content(budget);
  }

  get size(): number {
    return this.content.size;
  }

  override get allocated(): number {
    return this.content.held;
  }

  override release(): void {
    super.release();
    this.content.resize(0);
  }
}

/** A directory. `nlink` counts its name, its "." and the ".." of its directories. */
export class DirectoryNode extends Inode {
  readonly type = "directory";
  readonly entries = new Map<string, AnyNode>();
  /** Where it is; itself for the root. */
  parent: DirectoryNode = this;
  /** Its name there; empty for the root. */
  name = "";
  override nlink = 2;

  get size(): number {
    return 4096;
  }
}

/** A symlink. */
export class SymlinkNode extends Inode {
  readonly type = "symlink";
  readonly target: string;
  readonly #held: Budget;

  constructor(ino: number, target: string, now: bigint, budget: Budget) {
    super(ino, 0o777, now, budget);
    budget.takeBytes(target.length);
    this.target = target;
    this.#held = budget;
  }

  get size(): number {
    return this.target.length;
  }

  override release(): void {
    super.release();
    this.#held.freeBytes(this.target.length);
  }
}

/** A FIFO or a socket: what goes through it is the guest kernel's. */
export class SpecialNode extends Inode {
  readonly type: "fifo" | "socket";

  constructor(type: "fifo" | "socket", ino: number, mode: number, now: bigint, budget: Budget) {
    super(ino, mode, now, budget);
    this.type = type;
  }

  get size(): number {
    return 0;
  }
}

export type AnyNode = FileNode | DirectoryNode | SymlinkNode | SpecialNode;
