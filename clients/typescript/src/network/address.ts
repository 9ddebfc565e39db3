// IP addresses and blocks of them, as callers write them. Families do not mix; an IPv4-mapped IPv6
// address is the IPv4 address that it wraps.
import { isIPv4, isIPv6 } from "node:net";
import { type Check, invalid, text } from "../validate.js";

/** An address as a number. */
export interface Address {
  readonly bits: bigint;
  /** 32 or 128. */
  readonly width: 32 | 128;
}

/** The address that a text is, in the usual notation without a zone; undefined when it is none. */
export function parseAddress(given: string): Address | undefined {
  if (isIPv4(given)) return { bits: v4Bits(given), width: 32 };
  if (!isIPv6(given) || given.includes("%")) return undefined;
  const bits = v6Bits(given);
  if (bits >> 32n === 0xffffn) return { bits: bits & 0xffff_ffffn, width: 32 };
  return { bits, width: 128 };
}

function v4Bits(given: string): bigint {
  return given.split(".").reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
}

function v6Bits(given: string): bigint {
  const last = given.slice(given.lastIndexOf(":") + 1);
  const words = (part: string | undefined): bigint[] =>
    part ? part.split(":").map((word) => BigInt(`0x${word}`)) : [];
  let whole = given;
  if (last.includes(".")) {
    const bits = v4Bits(last);
    const dotted = `${(bits >> 16n).toString(16)}:${(bits & 0xffffn).toString(16)}`;
    whole = given.slice(0, -last.length) + dotted;
  }
  const [head, tail] = whole.split("::");
  const [left, right] = [words(head), words(tail)];
  const zeros = new Array<bigint>(8 - left.length - right.length).fill(0n);
  return [...left, ...zeros, ...right].reduce((bits, word) => (bits << 16n) | word, 0n);
}

/** A block of addresses. */
export class Block {
  readonly #network: Address;
  readonly #length: number;

  private constructor(network: Address, length: number) {
    this.#network = network;
    this.#length = length;
  }

  /** The block that a text is: an address, or `10.0.0.0/8` with no bit set after the prefix. */
  static parse(given: string): Block | undefined {
    const [ip = "", length, ...more] = given.split("/");
    const network = parseAddress(ip);
    if (network === undefined || more.length > 0) return undefined;
    if (length === undefined) return new Block(network, network.width);
    const isMapped = ip.includes(":") && network.width === 32;
    if (!/^\d{1,3}$/.test(length) || Number(length) > network.width || isMapped) return undefined;
    const rest = BigInt(network.width - Number(length));
    const isWhole = (network.bits >> rest) << rest === network.bits;
    return isWhole ? new Block(network, Number(length)) : undefined;
  }

  /** Whether the address lies in it. */
  contains(address: Address): boolean {
    const { bits, width } = this.#network;
    const rest = BigInt(width - this.#length);
    return address.width === width && address.bits >> rest === bits >> rest;
  }
}

/** The check of an address. */
export const address: Check<string> = (value, path) => {
  const checked = text(value, path);
  if (parseAddress(checked) === undefined) throw invalid(path, "an IP address", value);
  return checked;
};

/** The check of a block of addresses. */
export const block: Check<string> = (value, path) => {
  const checked = text(value, path);
  if (Block.parse(checked) === undefined) {
    const expected =
      "an IP address or a block of them such as 10.0.0.0/8, with no bit set after the prefix";
    throw invalid(path, expected, value);
  }
  return checked;
};

/** An address and a port: `192.0.2.1:53` or `[2001:db8::1]:53`; undefined when the text is none. */
export function parseSocketAddress(given: string): { ip: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(given);
  const [, v6, v4, digits] = match ?? [];
  const ip = v6 ?? v4 ?? "";
  const port = Number(digits);
  const isRight = v6 === undefined ? isIPv4(ip) : isIPv6(ip);
  return isRight && port >= 1 && port <= 65_535 ? { ip, port } : undefined;
}

/** The check of a resolver: `ip`, `ip:port` or `[v6]:port`. */
export const resolver: Check<string> = (value, path) => {
  const checked = text(value, path);
  if (parseAddress(checked) === undefined && parseSocketAddress(checked) === undefined) {
    throw invalid(path, '"ip", "ip:port" or "[v6]:port"', value);
  }
  return checked;
};
