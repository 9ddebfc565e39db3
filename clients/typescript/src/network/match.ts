// What `matchTcp`, `matchUdp` and `matchHttp` are given, checked and held against one destination.
import { isAsyncFunction } from "node:util/types";
import {
  type Check,
  invalid,
  invalidUnseen,
  object,
  oneOrMany,
  optional,
  text,
} from "../validate.js";
import { address, Block, block, parseAddress, parseSocketAddress } from "./address.js";
import type { NetworkEndpoint } from "./endpoint.js";
import { HostPattern, hostPattern } from "./host-pattern.js";
import { isAmong, type PortRange, type Ports, port, ports } from "./ports.js";

/** Where a plain host is HTTP. */
const HTTP_PORTS: readonly PortRange[] = [
  { first: 80, last: 80 },
  { first: 443, last: 443 },
];
/** Entries of a list in a matcher, at most. */
const LIST_MAX = 256;

/**
 * A destination: `"ip:port"`, `"[v6]:port"`, an address at any port, a block of addresses; an object
 * all of whose fields must fit; or a predicate, which must be synchronous and answer true or false.
 */
export type AddressMatch =
  | string
  | {
      /** An address. */
      readonly ip?: string | undefined;
      /** Blocks of addresses, one of which holds the destination; at most 256. */
      readonly cidr?: string | readonly string[] | undefined;
      /** A port. */
      readonly port?: number | undefined;
      /** Ports, one of which is the destination's. */
      readonly ports?: Ports | undefined;
    }
  | ((destination: NetworkEndpoint) => boolean);

/** A destination under one of its trusted names. */
export interface NamedEndpoint extends NetworkEndpoint {
  /** Lower case, without the last dot. */
  readonly hostname: string;
}

/**
 * A trusted name: `"host"` or `"*.host"` (all below it) at ports 80 and 443, the same with `":port"` at
 * that port; an object; or a predicate, asked for each name at any port, synchronous.
 */
export type HttpMatch =
  | string
  | {
      /** Names, or `"*."` and a name; one of them fits. At most 256. */
      readonly host: string | readonly string[];
      /** A port. */
      readonly port?: number | undefined;
      /** Ports. Default, where neither is given: 80 and 443. */
      readonly ports?: Ports | undefined;
    }
  | ((destination: NamedEndpoint) => boolean);

const addressObject = object({
  ip: optional(address),
  cidr: optional(oneOrMany(block, LIST_MAX)),
  port: optional(port),
  ports: optional(ports),
});
const httpObject = object({
  host: oneOrMany(hostPattern, LIST_MAX),
  port: optional(port),
  ports: optional(ports),
});

/** Whether the destination fits. Throws what is wrong with the matcher. */
export function fitsAddress(given: unknown, dst: NetworkEndpoint, path: string): boolean {
  if (typeof given === "function") return holds(given, dst, path);
  if (typeof given === "string") return fitsText(text(given, path), dst, path);
  if (given === undefined) throw invalid(path, "a string, an object or a function", given);
  const { ip, cidr, port: one, ports: ranges } = addressObject(given, path);
  const blocks = [ip === undefined ? undefined : [ip], cidr];
  if (ip === undefined && cidr === undefined && one === undefined && ranges === undefined) {
    throw invalidUnseen(path, "expected at least one of ip, cidr, port, ports");
  }
  const isIn = (texts: readonly string[] | undefined) =>
    texts?.some((one) => contains(one, dst.ip)) ?? true;
  return (
    blocks.every(isIn) &&
    (one === undefined || one === dst.port) &&
    (ranges === undefined || isAmong(ranges, dst.port))
  );
}

function fitsText(given: string, dst: NetworkEndpoint, path: string): boolean {
  const both = parseSocketAddress(given);
  if (both !== undefined) return both.port === dst.port && contains(both.ip, dst.ip);
  if (Block.parse(given) === undefined) {
    throw invalid(path, '"ip:port", "[v6]:port", an IP address or a block of them', given);
  }
  return contains(given, dst.ip);
}

function contains(block: string, ip: string): boolean {
  const parsed = parseAddress(ip);
  return parsed !== undefined && Block.parse(block)?.contains(parsed) === true;
}

/** The names that fit. Throws what is wrong with the matcher. */
export function fittingNames(
  given: unknown,
  names: readonly string[],
  dst: NetworkEndpoint,
  path: string,
): string[] {
  if (typeof given === "function") {
    requireSynchronous(given, path);
    return names.filter((hostname) => holds(given, { ...dst, hostname }, path));
  }
  const { patterns, ranges } = httpMatcher(given, path);
  if (!ranges.every((some) => isAmong(some, dst.port))) return [];
  return names.filter((name) => patterns.some((pattern) => pattern.matches(name)));
}

/** Names, one of which fits, and ranges of ports, all of which hold the destination's. */
interface HttpMatcher {
  readonly patterns: readonly HostPattern[];
  readonly ranges: readonly (readonly PortRange[])[];
}

const httpMatcher: Check<HttpMatcher> = (given, path) => {
  if (typeof given === "string") {
    const [, host = "", digits] = /^(.*?)(?::(\d{1,5}))?$/s.exec(given) ?? [];
    const pattern = HostPattern.parse(host);
    if (pattern === undefined) {
      const expected = '"host", "*.host" or either with ":port" (an address has no trusted name)';
      throw invalid(path, expected, given);
    }
    if (digits === undefined) return { patterns: [pattern], ranges: [HTTP_PORTS] };
    const one = port(Number(digits), `${path} (its port)`);
    return { patterns: [pattern], ranges: [[{ first: one, last: one }]] };
  }
  if (given === undefined) throw invalid(path, "a string, an object or a function", given);
  const { host, port: one, ports: ranges } = httpObject(given, path);
  const both = [
    ...(one === undefined ? [] : [[{ first: one, last: one }]]),
    ...(ranges ? [ranges] : []),
  ];
  return { patterns: host, ranges: both.length === 0 ? [HTTP_PORTS] : both };
};

function requireSynchronous(predicate: unknown, path: string): void {
  if (isAsyncFunction(predicate)) throw invalidUnseen(path, ASYNCHRONOUS);
}

const ASYNCHRONOUS = "the predicate must be synchronous: an answer that comes later is none";

/** What a predicate answers. Only true and false are answers. */
function holds<T>(predicate: unknown, about: T, path: string): boolean {
  requireSynchronous(predicate, path);
  const answer: unknown = (predicate as (about: T) => unknown)(about);
  if (typeof answer === "boolean") return answer;
  if (typeof (answer as PromiseLike<unknown> | null | undefined)?.then === "function") {
    Promise.resolve(answer).catch(() => undefined); // it is refused here; its failure is nobody's
    throw invalidUnseen(path, ASYNCHRONOUS);
  }
  throw invalid(path, "a predicate that answers true or false", answer);
}
