// Times: nanoseconds as bigint, or milliseconds with a fraction, which are exact to a microsecond.
import { fileError } from "./errno.js";

const NS_PER_SECOND = 1_000_000_000n;
/** The most seconds before or after 1970 that are taken: what ext4 and Linux's own limits are far within. */
const SECONDS_MAX = 2 ** 40;

/** A time in nanoseconds, from either unit; undefined without both. Throws EINVAL. */
export function nanoseconds(ns: unknown, ms: unknown): bigint | undefined {
  const result = ns === undefined ? fromMilliseconds(ms) : ns;
  if (result === undefined) return undefined;
  const max = BigInt(SECONDS_MAX) * NS_PER_SECOND;
  if (typeof result === "bigint" && result >= -max && result <= max) return result;
  throw fileError("EINVAL", `${String(result)} is not a time`);
}

function fromMilliseconds(ms: unknown): bigint | undefined {
  if (ms === undefined) return undefined;
  if (typeof ms !== "number" || !Number.isFinite(ms) || Math.abs(ms) > SECONDS_MAX * 1000) {
    throw fileError("EINVAL", `${String(ms)} is not a time`);
  }
  const whole = Math.floor(ms);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6));
}

/** A time as the protocol has it: whole seconds, rounded down, and the rest. */
export function split(ns: bigint): { seconds: bigint; nanos: number } {
  const rest = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return { seconds: (ns - rest) / NS_PER_SECOND, nanos: Number(rest) };
}

/** The reverse. */
export function join({ seconds, nanos }: { seconds: bigint; nanos: number }): bigint {
  return seconds * NS_PER_SECOND + BigInt(nanos);
}

/** Now, in nanoseconds. */
export function now(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
