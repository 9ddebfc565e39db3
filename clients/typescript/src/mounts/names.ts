// Names and paths as Linux has them: bytes. In here they are binary strings, one character a byte,
// which loses nothing, compares by bytes and is a cheap key. Callers have ordinary strings, which
// stand for their UTF-8; what is not UTF-8 they have as bytes.
import { Buffer, isUtf8 } from "node:buffer";
import { fileError } from "./errno.js";

/** Bytes of one name, at most (Linux, NAME_MAX). */
export const NAME_MAX = 255;
/** Bytes of a path, at most (Linux, PATH_MAX). */
export const PATH_MAX = 4096;

/** A string stands for its UTF-8; bytes for themselves. */
export type PathLike = string | Uint8Array;

/** The binary string of a path or name. */
export function binary(path: PathLike): string {
  if (typeof path !== "string") return bufferOf(path).toString("latin1");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what is meant
  return /^[\x00-\x7f]*$/.test(path) ? path : Buffer.from(path, "utf8").toString("latin1");
}

/** The bytes of a binary string. */
export function bytes(name: string): Buffer {
  return Buffer.from(name, "latin1");
}

/** What a binary string is as text; undefined when it is not UTF-8. */
export function text(name: string): string | undefined {
  return utf8(bytes(name));
}

/** What a binary string is as text, with U+FFFD where it is not UTF-8. */
export function lossy(name: string): string {
  return bytes(name).toString("utf8");
}

/** Bytes as text; undefined when they are not UTF-8. */
export function utf8(given: Uint8Array): string | undefined {
  return isUtf8(given) ? bufferOf(given).toString("utf8") : undefined;
}

/** The same bytes as a Buffer, not a copy. */
export function bufferOf(given: Uint8Array): Buffer {
  return Buffer.isBuffer(given)
    ? given
    : Buffer.from(given.buffer, given.byteOffset, given.byteLength);
}

/** The names of an absolute path in normal form. Throws ENAMETOOLONG, or EINVAL for one that is not. */
export function partsOf(path: string): string[] {
  if (path.length > PATH_MAX) throw fileError("ENAMETOOLONG", "the path is too long");
  if (path === "/") return [];
  const [first, ...parts] = path.split("/");
  if (first !== "" || parts.some((part) => !isName(part)) || path.includes("\0")) {
    throw fileError("EINVAL", `'${lossy(path)}' is not an absolute path in normal form`);
  }
  if (parts.some((part) => part.length > NAME_MAX)) {
    throw fileError("ENAMETOOLONG", `a name in '${lossy(path).slice(0, 100)}' is too long`);
  }
  return parts;
}

function isName(part: string): boolean {
  return part !== "" && part !== "." && part !== "..";
}
