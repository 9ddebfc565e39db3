// Linux error names: what a file operation ends with, and what an error that a callback threw means.
import { constants } from "node:os";
import { getSystemErrorName } from "node:util";
import { SandboxError } from "../errors.js";

/** Names that a file operation can end with beside those that this machine has. */
const LINUX_ONLY = ["EREMOTEIO", "EUCLEAN", "EKEYEXPIRED", "ENODATA", "EUSERS", "ETIME", "ENOLINK"];
/** Names that are another's, or that other systems have. */
const ALIASES: Readonly<Record<string, string>> = {
  ENOTSUP: "EOPNOTSUPP",
  EWOULDBLOCK: "EAGAIN",
  ENOATTR: "ENODATA",
};
const KNOWN = new Set([...Object.keys(constants.errno), ...LINUX_ONLY]);

/** The error of a file operation: code `file-error`, with the name in `errno`. */
export function fileError(errno: string, what: string): SandboxError {
  return new SandboxError("file-error", `${errno}: ${what}`, { errno });
}

/**
 * The Linux name that a thrown value stands for: its `errno` or `code` when that is a name, or the
 * number that Node puts into `errno`. Undefined for anything else. Never throws.
 */
export function errnoOf(thrown: unknown): string | undefined {
  try {
    if (typeof thrown !== "object" || thrown === null) return undefined;
    const { errno, code } = thrown as { errno?: unknown; code?: unknown };
    return errnoName(errno) ?? errnoName(code);
  } catch {
    return undefined; // a getter that throws
  }
}

function errnoName(value: unknown): string | undefined {
  let name: unknown = value;
  if (typeof value === "number" && Number.isInteger(value) && value !== 0) {
    name = getSystemErrorName(-Math.abs(value));
  }
  if (typeof name !== "string") return undefined;
  const alias = Object.hasOwn(ALIASES, name) ? ALIASES[name] : undefined;
  return alias ?? (KNOWN.has(name) ? name : undefined);
}
