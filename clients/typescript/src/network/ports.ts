// Ports, as callers write them.
import { type Check, integer, invalid, oneOrMany } from "../validate.js";

/** Ports: a number, a range such as `"8000-8100"` with both ends, or up to 256 of either. */
export type Ports = number | string | readonly (number | string)[];

/** A range of ports, both ends included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** The check of one port. */
export const port = integer(1, 65_535);

const range: Check<PortRange> = (value, path) => {
  if (typeof value === "number") {
    const checked = port(value, path);
    return { first: checked, last: checked };
  }
  const match = typeof value === "string" ? /^(\d{1,5})-(\d{1,5})$/.exec(value) : null;
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || first < 1 || first > last || last > 65_535) {
    throw invalid(path, 'a port from 1 to 65535 or a range such as "8000-8100"', value);
  }
  return { first, last };
};

/** The check of ports. */
export const ports: Check<PortRange[]> = oneOrMany(range, 256);

/** Whether a port is one of these. */
export function isAmong(ranges: readonly PortRange[], given: number): boolean {
  return ranges.some(({ first, last }) => first <= given && given <= last);
}
