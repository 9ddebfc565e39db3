// What a tree tells of a file.
import type { DirectoryEntry, FileStat, FileSystemSizes } from "../mounts/file-system.js";
import { bytes, lossy } from "../mounts/names.js";
import type { Budget } from "./budget.js";
import type { AnyNode } from "./node.js";

/** The block that sizes are told in. */
const BLOCK = 4096;

/** What a tree tells: everything. */
export type MemoryStat = {
  readonly [K in keyof FileStat]-?: Exclude<FileStat[K], undefined>;
} & { readonly ino: number };

/** An entry of a tree's directory: its name, with U+FFFD where it is not UTF-8, its bytes, and its stat. */
export type MemoryEntry = MemoryStat &
  Required<Pick<DirectoryEntry, "name">> & {
    readonly rawName: Uint8Array;
  };

/** The sizes of a tree, all of them. */
export type MemorySizes = { readonly [K in keyof FileSystemSizes]-?: number };

/** All of a file's attributes. */
export function statOf(node: AnyNode): MemoryStat {
  const { type, size, allocated, mode, uid, gid, nlink, ino, modified, accessed, changed } = node;
  return {
    type,
    sizeBytes: size,
    allocatedBytes: allocated,
    mode,
    uid,
    gid,
    nlink,
    ino,
    modifiedAtMs: milliseconds(modified),
    accessedAtMs: milliseconds(accessed),
    changedAtMs: milliseconds(changed),
    modifiedAtNs: modified,
    accessedAtNs: accessed,
    changedAtNs: changed,
  };
}

/** An entry of a directory. */
export function entryOf(name: string, node: AnyNode): MemoryEntry {
  return { name: lossy(name), rawName: bytes(name), ...statOf(node) };
}

/** What statfs tells. */
export function sizesOf(budget: Budget): MemorySizes {
  return {
    blockSize: BLOCK,
    blocks: Math.ceil(budget.maxBytes / BLOCK),
    blocksFree: Math.floor(budget.bytesFree / BLOCK),
    files: budget.maxNames,
    filesFree: budget.namesFree,
  };
}

function milliseconds(ns: bigint): number {
  return Number(ns) / 1e6;
}
