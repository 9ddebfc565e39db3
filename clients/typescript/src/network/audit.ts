// What is told of a guest's network, as data: flows that were refused, and the audit.
import { kebab } from "../error-mapping.js";
import {
  type Endpoint,
  type Flow,
  type NetworkEvent,
  Transport,
  DnsOutcome as WireDnsOutcome,
  FlowDenial as WireFlowDenial,
  FlowEnd as WireFlowEnd,
  HttpRefusal as WireHttpRefusal,
} from "../gen/lanebox/v1/network_pb.js";
import type { NetworkTransport } from "./connection.js";

/** One end of a flow. */
export interface FlowAddress {
  /** In the usual notation. */
  readonly ip: string;
  /** 0 where there are no ports. */
  readonly port: number;
}

/** A TCP connection, an exchange of UDP datagrams between two ports, or of ICMP echoes. */
export interface NetworkFlow {
  /** Unique in this VM, never reused. */
  readonly id: number;
  readonly transport: NetworkTransport;
  /** The guest's end. */
  readonly src: FlowAddress;
  /** Where it goes, as the guest names it. */
  readonly dst: FlowAddress;
}

/**
 * By what a flow was refused.
 *
 * | reason | meaning |
 * |---|---|
 * | `policy` | the policy said no, or had no grant |
 * | `deadline` | the policy did not answer in time |
 * | `policy-failed` | the callback threw or decided twice, or is not served any more |
 * | `unsuitable` | the decision cannot be carried out for such a flow |
 * | `address` | an address that is never dialled, or only by a grant that is missing |
 * | `limit` | a limit on flows was reached |
 * | `unknown` | something that this version does not know |
 */
export type FlowDenial =
  | "policy"
  | "deadline"
  | "policy-failed"
  | "unsuitable"
  | "address"
  | "limit"
  | "unknown";

/**
 * How a flow ended: both sides were done, one of them reset it, it was idle for too long or nothing was
 * heard from the guest, or the VM ended.
 */
export type FlowEnd =
  | "finished"
  | "guest-reset"
  | "upstream-reset"
  | "expired"
  | "shutdown"
  | "unknown";

/** How a question ended: a server answered, the answer was known, it may not be asked, or no server gave an answer that can be used. */
export type DnsOutcome = "answered" | "cached" | "refused" | "failed" | "unknown";

/**
 * Why a connection or a request under interception was not let through.
 *
 * | refusal | meaning |
 * |---|---|
 * | `not-http` | neither HTTP nor TLS, or nothing for too long |
 * | `name` | no trusted name, or not the one in the SNI or `Host` |
 * | `private` | a name that leads to an address that is not public |
 * | `malformed` | a head, a chunk or a ClientHello that is ill-formed, too long or too slow |
 * | `method` | `CONNECT` or `TRACE` |
 * | `middleware` | the middleware said no, failed, or took too long |
 * | `secret` | a secret's placeholder on its way to a host that may not have the secret |
 * | `upstream-tls` | the upstream's certificate, or what it speaks |
 * | `upstream` | the upstream failed |
 * | `limit` | too many connections |
 * | `unknown` | something that this version does not know |
 */
export type HttpRefusal =
  | "not-http"
  | "name"
  | "private"
  | "malformed"
  | "method"
  | "middleware"
  | "secret"
  | "upstream-tls"
  | "upstream"
  | "limit"
  | "unknown";

/** One record of the audit; `kind` tells which. Texts that come from the guest may hold anything. */
export type NetworkAuditRecord =
  | {
      /** A flow that was accepted has ended. */
      readonly kind: "flow-closed";
      readonly flow: NetworkFlow;
      /** Bytes of payload from the guest. */
      readonly sentBytes: number;
      /** Bytes of payload to the guest. */
      readonly receivedBytes: number;
      readonly end: FlowEnd;
    }
  | {
      /** A flow was accepted, and its destination could not be reached. */
      readonly kind: "flow-failed";
      readonly flow: NetworkFlow;
      /** Linux error name such as `ECONNREFUSED`; `ETIMEDOUT` also when the deadline passed. */
      readonly errno: string;
    }
  | {
      /** A name was asked for. */
      readonly kind: "dns";
      /** The flow that it came in. */
      readonly flowId: number;
      /** The name, as asked. */
      readonly name: string;
      /** Such as `A` or `TYPE65280`. */
      readonly recordType: string;
      readonly outcome: DnsOutcome;
      /** The response code, or why it was refused or failed. */
      readonly detail: string;
      /** Addresses that became trusted for the name, at most 64. */
      readonly addresses: readonly string[];
    }
  | {
      /** An intercepted request has ended, let through or not. */
      readonly kind: "http";
      /** The flow that it came in. */
      readonly flowId: number;
      /** Where it went, or would have gone: an address and a port. */
      readonly destination: string;
      /** Such as `GET`. */
      readonly method: string;
      /** The host as the request names it. */
      readonly host: string;
      /** The path without the query. */
      readonly path: string;
      /** Status of the response that the guest got; absent when it got none. */
      readonly status?: number;
      /** Bytes of the request's body, and from the guest after an upgrade. */
      readonly sentBytes: number;
      /** Bytes of the response's body, and to the guest after an upgrade. */
      readonly receivedBytes: number;
      /** Why it was not let through; absent when it was. */
      readonly refusal?: HttpRefusal;
      /** More about it. */
      readonly detail: string;
    }
  | {
      /** A connection was refused under interception, without a request. */
      readonly kind: "connection-refused";
      readonly flowId: number;
      /** Where it went: an address and a port. */
      readonly destination: string;
      /** The name that the guest gave; absent when it did not get as far. */
      readonly name?: string;
      readonly refusal: HttpRefusal;
      /** More about it. */
      readonly detail: string;
    }
  | {
      /** Packets were dropped; told on the first, second, fourth, eighth … occasion. */
      readonly kind: "packets-dropped";
      /** Why, such as `spoofed-source` or `fragment`. */
      readonly cause: string;
      /** How many so far, for this reason. */
      readonly total: number;
    };

/** An event of the network. */
export type NetworkVmEvent =
  | {
      /** A flow was refused: the guest got a reset or an ICMP error. */
      readonly type: "flow-denied";
      readonly flow: NetworkFlow;
      readonly reason: FlowDenial;
      /** In words, for people: the reason that the policy gave. */
      readonly detail: string;
    }
  | {
      /** Something went through the network, or ended there. */
      readonly type: "network-audit";
      readonly record: NetworkAuditRecord;
    }
  | {
      /** A callback of the network threw, answered nonsense or took too long: what it was asked was denied. */
      readonly type: "callback-failed";
      readonly message: string;
    };

/** What the host told of; undefined for what this version does not know. */
export function networkEvent({ event }: NetworkEvent): NetworkVmEvent | undefined {
  switch (event.case) {
    case "denied": {
      const { flow, reason, detail } = event.value;
      return {
        type: "flow-denied",
        flow: flowOf(flow),
        reason: name<FlowDenial>(WireFlowDenial, reason),
        detail,
      };
    }
    case "callbackFailed":
      return { type: "callback-failed", message: event.value.message };
    case undefined:
      return undefined;
    default: {
      const record = auditRecord(event);
      return record && { type: "network-audit", record };
    }
  }
}

function auditRecord(event: NetworkEvent["event"]): NetworkAuditRecord | undefined {
  switch (event.case) {
    case "failed":
      return { kind: "flow-failed", flow: flowOf(event.value.flow), errno: event.value.errno };
    case "closed": {
      const { flow, sentBytes, receivedBytes, end } = event.value;
      return {
        kind: "flow-closed",
        flow: flowOf(flow),
        sentBytes: Number(sentBytes),
        receivedBytes: Number(receivedBytes),
        end: name<FlowEnd>(WireFlowEnd, end),
      };
    }
    case "dns": {
      const { flowId, name: asked, recordType, outcome, detail, addresses } = event.value;
      return {
        kind: "dns",
        flowId: Number(flowId),
        name: asked,
        recordType,
        outcome: name<DnsOutcome>(WireDnsOutcome, outcome),
        detail,
        addresses: [...addresses],
      };
    }
    case "dropped":
      return {
        kind: "packets-dropped",
        cause: event.value.cause,
        total: Number(event.value.total),
      };
    default:
      return httpRecord(event);
  }
}

function httpRecord(event: NetworkEvent["event"]): NetworkAuditRecord | undefined {
  switch (event.case) {
    case "http": {
      const { method, host, path, status, detail, destination, refusal } = event.value;
      return {
        kind: "http",
        flowId: Number(event.value.flowId),
        destination,
        method,
        host,
        path,
        ...(status === 0 ? {} : { status }),
        sentBytes: Number(event.value.sentBytes),
        receivedBytes: Number(event.value.receivedBytes),
        ...(refusal === WireHttpRefusal.UNSPECIFIED
          ? {}
          : { refusal: name<HttpRefusal>(WireHttpRefusal, refusal) }),
        detail,
      };
    }
    case "refused": {
      const { flowId, destination, name: given, refusal, detail } = event.value;
      return {
        kind: "connection-refused",
        flowId: Number(flowId),
        destination,
        ...(given === "" ? {} : { name: given }),
        refusal: name<HttpRefusal>(WireHttpRefusal, refusal),
        detail,
      };
    }
    default:
      return undefined;
  }
}

/** The name of a value of an enum; `unknown` for what is unspecified, or of a newer host. */
function name<T extends string>(names: Record<number, string>, value: number): T | "unknown" {
  return value === 0 ? "unknown" : ((kebab(names, value) as T | undefined) ?? "unknown");
}

function flowOf(flow: Flow | undefined): NetworkFlow {
  return {
    id: Number(flow?.id ?? 0n),
    transport: kebab(Transport, flow?.transport ?? 0) as NetworkTransport,
    src: addressOf(flow?.source),
    dst: addressOf(flow?.destination),
  };
}

function addressOf(endpoint: Endpoint | undefined): FlowAddress {
  return { ip: endpoint?.ip ?? "", port: endpoint?.port ?? 0 };
}
