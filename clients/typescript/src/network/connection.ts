// A new flow, as the callback of a policy sees it, and the one decision about it.
import { kebab } from "../error-mapping.js";
import { SandboxError } from "../errors.js";
import { type DecideFlowCall, type FlowDecision, Transport } from "../gen/lanebox/v1/network_pb.js";
import { boolean, callback, object, oneOrMany, optional, withDefault } from "../validate.js";
import { resolver } from "./address.js";
import { brief } from "./brief.js";
import { endpointOf, type NetworkEndpoint } from "./endpoint.js";
import { type AddressMatch, fitsAddress, fittingNames, type HttpMatch } from "./match.js";
import type { HttpMiddleware } from "./request.js";
import type { Verdict } from "./verdict.js";

/** What carries a flow. */
export type NetworkTransport = "tcp" | "udp" | "icmp";

/** A decision about a flow, and the middleware that goes with it. */
export interface FlowVerdict {
  readonly decision: FlowDecision["decision"];
  readonly middleware?: HttpMiddleware | undefined;
}

const acceptOptions = object({ linkLocal: withDefault(boolean, false) });
/** The check of resolvers; none are those of the host. */
export const resolversOption = withDefault(oneOrMany(resolver, 16, 0), []);
const dnsOptions = object({ resolvers: resolversOption });
const httpOptions = object({ allowPrivate: withDefault(boolean, false) });
const middlewareOption = optional(callback<HttpMiddleware>());

/** A flow that goes where it was matched with: accept it to let it through. */
export interface FlowMatch {
  /** Relays the flow as it is. As {@link NetworkConnection.accept}. */
  accept(options?: { readonly linkLocal?: boolean | undefined }): void;
}

/** A flow to the guest's resolver. */
export interface DnsMatch {
  /**
   * Has the host answer its questions, of all record types. Answers that were accepted make the names
   * trusted for their addresses, for the longer of their TTL and ten minutes.
   *
   * `resolvers`: whom to ask, as `"ip"`, `"ip:port"` or `"[v6]:port"`, 16 at most; one after the other
   * until one answers. Default: those of the host.
   */
  accept(options?: { readonly resolvers?: string | readonly string[] | undefined }): void;
}

/** A flow to a trusted name. */
export interface HttpMatchResult {
  /** The trusted names that fit: lower case, without the last dot. */
  readonly names: readonly string[];
  /**
   * Lets HTTP to these names through, and TLS whose SNI is one of them; anything else fails closed.
   * With a middleware each request is asked about; without one, and without secrets, TLS stays closed.
   */
  accept(middleware?: HttpMiddleware): void;
}

/** A new flow of the guest. Without a grant it is denied. */
export class NetworkConnection {
  /** What carries it: TCP, UDP, or ICMP echoes, whose ports are 0. */
  readonly transport: NetworkTransport;
  /** The guest's end. */
  readonly src: NetworkEndpoint;
  /** Where it goes, as the guest names it. */
  readonly dst: NetworkEndpoint;
  /** Names that accepted DNS answers gave for the destination: lower case, without the last dot. 64 at most. */
  readonly names: readonly string[];
  /** Fires when nobody waits for the decision any more: the deadline has passed, or the flow or the VM has ended. */
  readonly signal: AbortSignal;
  readonly #toResolver: boolean;
  readonly #verdict: Verdict<FlowVerdict>;

  /** @internal */
  constructor(call: DecideFlowCall, verdict: Verdict<FlowVerdict>, signal: AbortSignal) {
    this.#verdict = verdict;
    this.signal = signal;
    this.transport = kebab(Transport, call.flow?.transport ?? 0) as NetworkTransport;
    this.src = endpointOf(call.flow?.source);
    this.dst = endpointOf(call.flow?.destination);
    this.names = Object.freeze([...call.names]);
    this.#toResolver = call.toResolver;
  }

  /**
   * Relays the flow as it is. A link-local destination, such as the metadata service of a cloud, is only
   * dialled with `linkLocal: true`; loopback, multicast and broadcast never are.
   *
   * Every decision throws a {@link SandboxError} `invalid-state` when one was made (the flow is then
   * denied) or when it comes after the callback has returned or the deadline has passed.
   */
  accept(options?: { readonly linkLocal?: boolean | undefined }): void {
    const { linkLocal } = acceptOptions(options, "accept.options");
    const value = { $typeName: "lanebox.v1.AcceptFlow" as const, linkLocal };
    this.#verdict.give({ decision: { case: "accept", value } });
  }

  /** Refuses the flow: a reset for TCP, an ICMP error for the rest. The reason stands in the event. */
  deny(reason = "The policy denies it"): void {
    const value = { $typeName: "lanebox.v1.DenyFlow" as const, reason: brief(reason) };
    this.#verdict.give({ decision: { case: "deny", value } });
  }

  /** For flows to the guest's resolver, over UDP or TCP; null for all others. */
  matchDns(): DnsMatch | null {
    if (!this.#toResolver) return null;
    return {
      accept: (options) => {
        const { resolvers } = dnsOptions(options, "accept.options");
        const value = { $typeName: "lanebox.v1.ResolveFlow" as const, resolvers };
        this.#verdict.give({ decision: { case: "resolve", value } });
      },
    };
  }

  /** For TCP flows to such a destination; null for all others. Throws when the matcher makes no sense. */
  matchTcp(match: AddressMatch): FlowMatch | null {
    return this.#matchAddress("tcp", match, "matchTcp");
  }

  /** For UDP flows to such a destination; null for all others. Throws when the matcher makes no sense. */
  matchUdp(match: AddressMatch): FlowMatch | null {
    return this.#matchAddress("udp", match, "matchUdp");
  }

  /**
   * For TCP flows to a trusted name, one that an accepted DNS answer gave; null for all others. What the
   * guest says in `Host` or SNI makes no name trusted. Throws when the matcher makes no sense.
   *
   * `allowPrivate`: the name may lead to a private, loopback or link-local address. Default: false, and
   * such a connection is refused with an event. `host.lanebox.internal` needs no such grant.
   */
  matchHttp(
    match: HttpMatch,
    options?: { readonly allowPrivate?: boolean | undefined },
  ): HttpMatchResult | null {
    const { allowPrivate } = httpOptions(options, "matchHttp.options");
    const fitting = fittingNames(match, this.names, this.dst, "matchHttp");
    // No names would mean any: a flow without a trusted name is not for this.
    if (this.transport !== "tcp" || fitting.length === 0) return null;
    const names = Object.freeze(fitting);
    return {
      names,
      accept: (middleware) => this.#acceptHttp(names, allowPrivate, middleware),
    };
  }

  /**
   * The same enforcement for a TCP flow without a trusted name, such as to an address typed by hand: only
   * HTTP, or TLS, to that address, under whatever name; `request.destination.hostname` is absent.
   */
  acceptHttp(middleware?: HttpMiddleware): void {
    if (this.transport !== "tcp") {
      throw new SandboxError(
        "invalid-state",
        `acceptHttp is for TCP, and this is ${this.transport}`,
      );
    }
    this.#acceptHttp([], false, middleware);
  }

  #matchAddress(transport: NetworkTransport, match: unknown, path: string): FlowMatch | null {
    const fits = fitsAddress(match, this.dst, path);
    if (!fits || this.transport !== transport || this.#toResolver) return null;
    return { accept: (options) => this.accept(options) };
  }

  #acceptHttp(names: readonly string[], allowPrivate: boolean, given: unknown): void {
    const middleware = middlewareOption(given, "middleware");
    const value = {
      $typeName: "lanebox.v1.HttpFlow" as const,
      names: [...names],
      allowPrivate,
      middleware: middleware !== undefined,
    };
    this.#verdict.give({ decision: { case: "http", value }, middleware });
  }
}
