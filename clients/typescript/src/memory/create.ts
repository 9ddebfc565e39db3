// The options of fs.memory.
import { now } from "../mounts/times.js";
import { type Check, integer, invalid, object, optional, withDefault } from "../validate.js";
import { SIZE_MAX } from "./content.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { Tree } from "./tree.js";

/** A file to begin with: its content, or its content and permission bits. */
export type MemoryFile =
  | string
  | Uint8Array
  | { readonly contents: string | Uint8Array; readonly mode?: number | undefined };

/** Options of `fs.memory`. */
export interface MemoryOptions {
  /** Files to begin with, by their paths; directories are made as needed. */
  readonly files?: Readonly<Record<string, MemoryFile>> | undefined;
  /**
   * Bytes that it may hold; then ENOSPC. What is held counts: content that was written (not holes),
   * in steps of 4 KiB, targets of symlinks and attributes. Default: 256 MiB.
   */
  readonly maxBytes?: number | undefined;
  /** Names that there may be in all directories, 1 to 10000000; then ENOSPC. Default: 1000000. */
  readonly maxFiles?: number | undefined;
}

const MIB = 1024 * 1024;

const contents: Check<string | Uint8Array> = (value, path) => {
  if (typeof value === "string" || value instanceof Uint8Array) return value;
  throw invalid(path, "a string or a Uint8Array", value);
};

const fileWithMode = object({ contents, mode: optional(integer(0, 0o7777)) });

const files: Check<[string, { contents: string | Uint8Array; mode: number | undefined }][]> = (
  value,
  path,
) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(path, "an object of paths and contents", value);
  }
  return Object.entries(value).map(([name, given]) => {
    const where = `${path}[${JSON.stringify(name)}]`;
    const isPlain = typeof given !== "object" || given === null || given instanceof Uint8Array;
    return [name, fileWithMode(isPlain ? { contents: given } : given, where)];
  });
};

const memoryOptions = object({
  files: withDefault(files, []),
  maxBytes: withDefault(integer(0, SIZE_MAX), 256 * MIB),
  maxFiles: withDefault(integer(1, 10_000_000), 1_000_000),
});

/** Makes a tree with its first files. */
export function createMemory(given: unknown): MemoryFileSystem {
  const options = memoryOptions(given, "options");
  const memory = new MemoryFileSystem(new Tree(options.maxBytes, options.maxFiles, now));
  for (const [path, { contents, mode }] of options.files) {
    memory.writeFileNow(path, contents, { mode, createParents: true });
  }
  return memory;
}
