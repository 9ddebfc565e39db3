// Header fields of a request or a response: their order and duplicates are kept, values are bytes.
import { SandboxError } from "../errors.js";
import type { HttpHeader } from "../gen/lanebox/v1/network_pb.js";
import { type Check, invalidUnseen, record } from "../validate.js";

/** A token (RFC 9110, 5.6.2). */
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** What can stand in a field (RFC 9110, 5.5): tab, what is visible, and bytes beyond ASCII. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
/** Fields of one message, and bytes of all their names and values, at most. */
const FIELDS_MAX = 1000;
const BYTES_MAX = 256 * 1024;

/**
 * Header fields, used as the `Headers` of the WHATWG are, with two differences: the fields keep their
 * order and their duplicates (nothing is sorted or joined but by `get`), and there is `getAll`.
 *
 * Names are in lower case whatever case they are given in. Each character of a value is one byte
 * (Latin-1, as in `fetch`), so that bytes that are no UTF-8 survive. What cannot be a name or a value
 * throws a {@link SandboxError} `invalid-argument`, whose message does not show the value.
 */
export class HttpHeaders implements Iterable<[string, string]> {
  #fields: [name: string, value: string][] = [];

  /** @internal */
  constructor(fields: Iterable<readonly [string, string]> = []) {
    for (const [name, value] of fields) this.#fields.push([name, value]);
  }

  /** The values of a name, joined by `", "` (those of `cookie` by `"; "`); null when there is none. */
  get(name: string): string | null {
    const lower = checkedName(name);
    const values = this.getAll(lower);
    return values.length === 0 ? null : values.join(lower === "cookie" ? "; " : ", ");
  }

  /** The values of a name, in their order. */
  getAll(name: string): string[] {
    const lower = checkedName(name);
    return this.#fields.filter(([known]) => known === lower).map(([, value]) => value);
  }

  /** Whether there is a field of that name. */
  has(name: string): boolean {
    const lower = checkedName(name);
    return this.#fields.some(([known]) => known === lower);
  }

  /** Gives the name this one value, in the place of its first field; at the end when it had none. */
  set(name: string, value: string): void {
    const field: [string, string] = [checkedName(name), checkedValue(value, name)];
    const at = this.#fields.findIndex(([known]) => known === field[0]);
    if (at < 0) {
      this.#fields.push(field);
      return;
    }
    const isOther = ([known]: [string, string], index: number) =>
      known !== field[0] || index === at;
    this.#fields[at] = field;
    this.#fields = this.#fields.filter(isOther);
  }

  /** Adds a field at the end. */
  append(name: string, value: string): void {
    this.#fields.push([checkedName(name), checkedValue(value, name)]);
  }

  /** Takes out all fields of a name. */
  delete(name: string): void {
    const lower = checkedName(name);
    this.#fields = this.#fields.filter(([known]) => known !== lower);
  }

  /** The fields as they are: in order, duplicates kept. */
  *entries(): IterableIterator<[string, string]> {
    for (const [name, value] of [...this.#fields]) yield [name, value];
  }

  /** The names of the fields as they are. */
  *keys(): IterableIterator<string> {
    for (const [name] of this.entries()) yield name;
  }

  /** The values of the fields as they are. */
  *values(): IterableIterator<string> {
    for (const [, value] of this.entries()) yield value;
  }

  /** The same as `entries`. */
  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.entries();
  }
}

/** The header fields that the host told of. */
export function headersOf(wire: readonly HttpHeader[]): HttpHeaders {
  return new HttpHeaders(
    wire.map(({ name, value }) => [name.toLowerCase(), Buffer.from(value).toString("latin1")]),
  );
}

/** Header fields for the host. Throws when they are too many. */
export function wireHeaders(headers: Iterable<readonly [string, string]>): HttpHeader[] {
  let size = 0;
  const fields = Array.from(headers, ([name, value]): HttpHeader => {
    size += name.length + value.length;
    return { $typeName: "lanebox.v1.HttpHeader", name, value: Buffer.from(value, "latin1") };
  });
  if (fields.length > FIELDS_MAX || size > BYTES_MAX) {
    const limits = `${FIELDS_MAX} header fields, ${BYTES_MAX / 1024} KiB together`;
    throw new SandboxError("limit-exceeded", `More than ${limits}`);
  }
  return fields;
}

function checkedName(given: unknown): string {
  return fieldName(given, "header name");
}

function checkedValue(given: unknown, name: string): string {
  return fieldValue(given, `header ${name}`);
}

/** The check of a field's name; in lower case. */
export const fieldName: Check<string> = (value, path) => {
  if (typeof value !== "string" || !NAME.test(value) || value.length > 256) {
    throw invalidUnseen(path, "expected a token of at most 256 characters (RFC 9110)");
  }
  return value.toLowerCase();
};

/** The check of a field's value; without spaces at its ends. Never shows it. */
export const fieldValue: Check<string> = (value, path) => {
  if (typeof value !== "string" || !VALUE.test(value)) {
    throw invalidUnseen(
      path,
      "expected a string that can stand in a header: no line ends, no NUL, no character above U+00FF",
    );
  }
  return value.replace(/^[\t ]+|[\t ]+$/g, "");
};

/** Fields, as callers write them: an object of names and values, or pairs of them in order. */
export type HeadersInit =
  | Readonly<Record<string, string | readonly string[]>>
  | Iterable<readonly [string, string]>;

/** The check of fields. Values are never shown. */
export const headerFields: Check<[name: string, value: string][]> = (value, path) => {
  if (value === undefined) return [];
  const isIterable =
    typeof (value as Iterable<unknown> | null)?.[Symbol.iterator] === "function" &&
    typeof value === "object";
  const given: unknown[] = isIterable
    ? [...(value as Iterable<unknown>)]
    : Object.entries(record(value, path));
  return given.flatMap((pair, index) => {
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw invalidUnseen(`${path}[${index}]`, "expected a pair of a name and a value");
    }
    const where = isIterable ? `${path}[${index}]` : `${path}[${JSON.stringify(pair[0])}]`;
    const name = fieldName(pair[0], where);
    const values: unknown[] = !isIterable && Array.isArray(pair[1]) ? pair[1] : [pair[1]];
    return values.map((one): [string, string] => [name, fieldValue(one, where)]);
  });
};
