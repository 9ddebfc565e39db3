// What callbacks answer, checked once, as the protocol has it. A WrongAnswer is what the guest sees
// as EIO and the owner as an event.
import { create } from "@bufbuild/protobuf";
import {
  type DirectoryEntry,
  DirectoryEntrySchema,
  type FileStat,
  FileStatSchema,
  type FilesystemAnswer,
  type FilesystemSizes,
  FilesystemSizesSchema,
  FileType,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { binary, bytes, NAME_MAX, type PathLike } from "./names.js";
import { nanoseconds, split } from "./times.js";

/** An answer that cannot be. The message says what is wrong with it. */
export class WrongAnswer extends Error {}

/** What a question can be answered with. */
export type Answer = FilesystemAnswer["answer"];

const types: ReadonlyMap<unknown, FileType> = new Map([
  ["file", FileType.FILE],
  ["directory", FileType.DIRECTORY],
  ["symlink", FileType.SYMLINK],
  ["fifo", FileType.FIFO],
  ["socket", FileType.SOCKET],
]);
const U32_MAX = 2 ** 32 - 1;
const U64_MAX = 2n ** 64n - 1n;
/** Bytes of the names of all attributes of a file. */
const XATTR_NAMES_MAX = 64 * 1024;

/** The answer of a call that has nothing to tell. */
export const DONE: Answer = {
  case: "done",
  value: { $typeName: "lanebox.v1.FilesystemDone" },
};

/** A FileStat of a callback. */
export function statAnswer(given: unknown): FileStat {
  const stat = fields(given, "a FileStat");
  const type = types.get(stat["type"]);
  if (type === undefined) throw new WrongAnswer(`its type is ${show(stat["type"])}`);
  const result = create(FileStatSchema, { type });
  const size = whole(stat, "sizeBytes", Number.MAX_SAFE_INTEGER);
  if (size !== undefined) result.size = BigInt(size);
  const allocated = whole(stat, "allocatedBytes", Number.MAX_SAFE_INTEGER);
  if (allocated !== undefined) result.allocated = BigInt(allocated);
  const mode = whole(stat, "mode", U32_MAX);
  if (mode !== undefined) result.mode = mode & 0o7777;
  const uid = whole(stat, "uid", U32_MAX - 1);
  if (uid !== undefined) result.uid = uid;
  const gid = whole(stat, "gid", U32_MAX - 1);
  if (gid !== undefined) result.gid = gid;
  const nlink = whole(stat, "nlink", U32_MAX);
  if (nlink !== undefined) result.nlink = nlink;
  const ino = number64(stat["ino"], "ino");
  if (ino !== undefined && ino !== 0n) result.ino = ino;
  for (const name of ["modified", "accessed", "changed"] as const) {
    const time = timeOf(stat, name);
    if (time !== undefined) result[name] = { $typeName: "lanebox.v1.FileTime", ...split(time) };
  }
  return result;
}

/** An entry of a directory. */
export function entryAnswer(given: unknown): DirectoryEntry {
  const entry = fields(given, "a DirectoryEntry");
  const { name, rawName } = entry as { name?: unknown; rawName?: unknown };
  const chosen = rawName === undefined ? name : rawName;
  if (typeof chosen !== "string" && !(chosen instanceof Uint8Array)) {
    throw new WrongAnswer(`an entry's name is ${show(chosen)}`);
  }
  const raw = binary(chosen);
  const isName = raw !== "" && raw !== "." && raw !== ".." && !/[/\0]/.test(raw);
  if (!isName || raw.length > NAME_MAX) {
    throw new WrongAnswer(`${show(chosen)} cannot be the name of an entry`);
  }
  return create(DirectoryEntrySchema, { name: bytes(raw), stat: statAnswer(given) });
}

/** Bytes, no more than there may be. */
export function dataAnswer(given: unknown, max: number): Answer {
  if (!(given instanceof Uint8Array)) throw new WrongAnswer(`it is ${show(given)}, not bytes`);
  if (given.byteLength > max) {
    throw new WrongAnswer(`it has ${given.byteLength} bytes, where ${max} is the most`);
  }
  return { case: "data", value: given };
}

/** A symlink's target: text or bytes. */
export function targetAnswer(given: unknown): Answer {
  const answer = dataAnswer(typeof given === "string" ? bytes(binary(given)) : given, 4095);
  if (answer.case !== "data" || answer.value.byteLength === 0 || answer.value.includes(0)) {
    throw new WrongAnswer("a symlink's target is empty or has NUL in it");
  }
  return answer;
}

/** How many of the bytes were written. */
export function writtenAnswer(given: unknown, length: number): Answer {
  const least = Math.min(1, length);
  if (typeof given !== "number" || !Number.isInteger(given) || given < least || given > length) {
    throw new WrongAnswer(`it is ${show(given)}, for ${length} bytes`);
  }
  return { case: "written", value: BigInt(given) };
}

/** Names of attributes. */
export function namesAnswer(given: unknown): Answer {
  if (!Array.isArray(given)) throw new WrongAnswer(`it is ${show(given)}, not an array`);
  let size = 0;
  const names = given.map((name: unknown) => {
    if (typeof name !== "string" && !(name instanceof Uint8Array)) {
      throw new WrongAnswer(`a name is ${show(name)}`);
    }
    const raw = bytes(binary(name as PathLike));
    if (raw.byteLength === 0 || raw.byteLength > NAME_MAX || raw.includes(0)) {
      throw new WrongAnswer(`${show(name)} cannot be the name of an attribute`);
    }
    size += raw.byteLength + 1;
    if (size > XATTR_NAMES_MAX) throw new WrongAnswer("the names are more than 64 KiB");
    return raw;
  });
  return { case: "names", value: { $typeName: "lanebox.v1.XattrNames", names } };
}

/** Sizes of the file system. */
export function sizesAnswer(given: unknown): Answer {
  const sizes = fields(given, "sizes");
  const blockSize = whole(sizes, "blockSize", U32_MAX) ?? 4096;
  const blocks = number64(sizes["blocks"], "blocks");
  const blocksFree = number64(sizes["blocksFree"], "blocksFree");
  if (blockSize === 0 || blocks === undefined || blocksFree === undefined) {
    throw new WrongAnswer("it needs blocks, blocksFree and a blockSize that is not 0");
  }
  const files = number64(sizes["files"], "files") ?? 0n;
  const filesFree = number64(sizes["filesFree"], "filesFree") ?? 0n;
  const told: Omit<FilesystemSizes, "$typeName"> = {
    blockSize,
    blocks,
    blocksFree,
    files,
    filesFree,
  };
  return { case: "statfs", value: create(FilesystemSizesSchema, told) };
}

/** A value for people, short. Never throws. */
export function show(value: unknown): string {
  if (typeof value === "string") return `'${value.slice(0, 80)}'`;
  if (typeof value === "number" || typeof value === "bigint" || value == null) return String(value);
  if (Array.isArray(value)) return "an array";
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  return `of type ${typeof value}`;
}

/** A thrown value for people. Never throws. */
export function describe(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return "what cannot be shown";
  }
}

function fields(given: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof given !== "object" || given === null) {
    throw new WrongAnswer(`it is ${show(given)}, not ${what}`);
  }
  return given as Readonly<Record<string, unknown>>;
}

function whole(
  from: Readonly<Record<string, unknown>>,
  name: string,
  max: number,
): number | undefined {
  const value = from[name];
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) {
    return value;
  }
  throw new WrongAnswer(`its ${name} is ${show(value)}`);
}

function number64(value: unknown, name: string): bigint | undefined {
  if (value === undefined) return undefined;
  const isWhole = typeof value === "number" && Number.isSafeInteger(value);
  const number = isWhole ? BigInt(value) : value;
  if (typeof number === "bigint" && number >= 0n && number <= U64_MAX) return number;
  throw new WrongAnswer(`its ${name} is ${show(value)}`);
}

function timeOf(from: Readonly<Record<string, unknown>>, name: string): bigint | undefined {
  const [ns, ms] = [from[`${name}AtNs`], from[`${name}AtMs`]];
  try {
    return nanoseconds(ns, ms);
  } catch {
    throw new WrongAnswer(`its ${name} time is ${show(ns ?? ms)}`);
  }
}
