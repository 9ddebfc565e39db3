// Names of hosts, as callers write them: a name, or "*." and a name for all below it.
import { isIP } from "node:net";
import { type Check, invalid, text } from "../validate.js";

/** What a name must be to be trusted: ASCII labels, and no number at its end, which many read as an address. */
const NAME = /^(?=.{1,253}$)(?:[a-z0-9_-]{1,63}\.)*(?!\d+$|0x[0-9a-f]*$)[a-z0-9_-]{1,63}$/;

/** A name, or all names below one. */
export class HostPattern {
  /** In its one spelling: lower case, without the last dot. */
  readonly text: string;
  readonly #name: string;
  readonly #below: boolean;

  private constructor(name: string, below: boolean) {
    this.#name = name;
    this.#below = below;
    this.text = below ? `*.${name}` : name;
  }

  /** The pattern that a text is; undefined when it is none. */
  static parse(given: string): HostPattern | undefined {
    const below = given.startsWith("*.");
    const name = plainName(below ? given.slice(2) : given);
    return isIP(name) === 0 && NAME.test(name) ? new HostPattern(name, below) : undefined;
  }

  /** Whether a name fits, in any case, with or without the last dot. */
  matches(given: string): boolean {
    const name = plainName(given);
    if (!this.#below) return name === this.#name;
    return name.endsWith(`.${this.#name}`) && name.length > this.#name.length + 1;
  }
}

function plainName(given: string): string {
  const lower = given.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** The check of a pattern. */
export const hostPattern: Check<HostPattern> = (value, path) => {
  const pattern = HostPattern.parse(text(value, path));
  if (pattern === undefined) {
    throw invalid(path, 'a host name in ASCII, or "*." and one; no address', value);
  }
  return pattern;
};
