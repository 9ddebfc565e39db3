// Decisions as data, which the host evaluates by itself. Checked here, in the words of the options.
import { create } from "@bufbuild/protobuf";
import {
  AllowedTraffic,
  NetworkRuleSchema,
  type NetworkRule as WireRule,
} from "../gen/lanebox/v1/network_pb.js";
import {
  boolean,
  type Check,
  invalid,
  invalidUnseen,
  object,
  oneOf,
  oneOrMany,
  optional,
  withDefault,
} from "../validate.js";
import { block } from "./address.js";
import { resolversOption } from "./connection.js";
import { type HeadersInit, headerFields, wireHeaders } from "./headers.js";
import { hostPattern } from "./host-pattern.js";
import { type Ports, ports } from "./ports.js";

/** Allows flows. Every condition that is given must hold. */
export interface NetworkRule {
  /**
   * `"dns"`: questions to the guest's resolver; with `to`, flows to port 53 of those addresses.
   * `"http"`: TCP that is HTTP, or TLS, to the trusted name, or to the address where no host is given.
   * `"tcp"`, `"udp"`: as it is.
   */
  readonly allow: "dns" | "http" | "tcp" | "udp";
  /**
   * A trusted name of the destination, or `"*."` and a name for all below it; for `"dns"` of the
   * question. Default: any.
   */
  readonly host?: string | undefined;
  /**
   * Addresses and blocks of them, one of which holds the destination; 256 at most. A block inside the
   * link-local range grants it. Default: any.
   */
  readonly to?: string | readonly string[] | undefined;
  /** Ports, one of which is the destination's. Default: any; for `"http"` 80 and 443. */
  readonly ports?: Ports | undefined;
  /**
   * `"http"`: header fields that take the place of those of the same names in every request; 64 at most,
   * 64 KiB together. They go upstream and never become visible in the guest. Needs `host` or `to`.
   */
  readonly headers?: HeadersInit | undefined;
  /** The trusted name may lead to an address that is not public. Default: false. */
  readonly allowPrivate?: boolean | undefined;
  /** `"dns"` without `to`: whom to ask, as `"ip"`, `"ip:port"` or `"[v6]:port"`; 16 at most. Default: the host's. */
  readonly resolvers?: string | readonly string[] | undefined;
}

/** A checked rule, as the host takes it. */
export type CheckedRule = WireRule;

/** Rules of a network, at most. */
export const RULES_MAX = 1024;
const HEADERS_MAX = 64;
const HEADERS_BYTES_MAX = 64 * 1024;
const LIST_MAX = 256;

const traffic = {
  dns: AllowedTraffic.DNS,
  http: AllowedTraffic.HTTP,
  tcp: AllowedTraffic.TCP,
  udp: AllowedTraffic.UDP,
};

const headers: Check<ReturnType<typeof wireHeaders>> = (value, path) => {
  const fields = headerFields(value, path);
  const size = fields.reduce((sum, [name, text]) => sum + name.length + text.length, 0);
  if (fields.length > HEADERS_MAX || size > HEADERS_BYTES_MAX) {
    throw invalidUnseen(path, `more than ${HEADERS_MAX} fields, 64 KiB together`);
  }
  return wireHeaders(fields);
};

const ruleOptions = object({
  allow: oneOf("dns", "http", "tcp", "udp"),
  host: optional(hostPattern),
  to: optional(oneOrMany(block, LIST_MAX)),
  ports: optional(ports),
  headers,
  allowPrivate: withDefault(boolean, false),
  resolvers: resolversOption,
});

/** Checks the rules. */
export function checkRules(given: unknown, path: string): CheckedRule[] {
  if (!Array.isArray(given)) throw invalid(path, "an array of rules", typeof given);
  if (given.length > RULES_MAX) {
    throw invalidUnseen(path, `${given.length} rules, where ${RULES_MAX} are the most`);
  }
  return Array.from(given, (rule: unknown, index) => checkRule(rule, `${path}[${index}]`));
}

function checkRule(given: unknown, path: string): CheckedRule {
  // Not shown when it is no object: it may be a header that slipped out of its place.
  if (typeof given !== "object" || given === null) throw invalidUnseen(path, "expected an object");
  const rule = ruleOptions(given, path);
  const { allow, host, to, ports: ranges, headers: fields, allowPrivate, resolvers } = rule;
  const senseless = (option: string, why: string) => invalidUnseen(`${path}.${option}`, why);
  if (allow === "dns") {
    if (to !== undefined && host !== undefined) {
      throw senseless("host", "questions to other resolvers (`to`) are not looked into");
    }
    if (to === undefined && ranges !== undefined) {
      throw senseless("ports", "the guest's resolver is at port 53");
    }
    if (to !== undefined && resolvers.length > 0) {
      throw senseless("resolvers", "with `to` the guest asks those addresses itself");
    }
  } else if (resolvers.length > 0) {
    throw senseless("resolvers", 'it is for allow: "dns"');
  }
  if (fields.length > 0 && allow !== "http") throw senseless("headers", 'it is for allow: "http"');
  if (fields.length > 0 && host === undefined && to === undefined) {
    throw senseless(
      "headers",
      "they may be credentials: the rule must say for whom, by `host` or `to`",
    );
  }
  if (allowPrivate && (host === undefined || allow === "dns")) {
    throw senseless("allowPrivate", "it is about where a `host` other than of a question leads");
  }
  return create(NetworkRuleSchema, {
    allow: traffic[allow],
    host: host?.text ?? "",
    to: to ?? [],
    ports: ranges ?? [],
    headers: fields,
    allowPrivate,
    resolvers,
  });
}
