import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { kebab } from "../error-mapping.js";
import {
  DnsOutcome,
  FlowDenial,
  FlowEnd,
  HttpRefusal,
  NetworkEventSchema,
  Transport,
} from "../gen/lanebox/v1/network_pb.js";
import { networkEvent } from "./audit.js";

type Event = NonNullable<MessageInitShape<typeof NetworkEventSchema>["event"]>;

const flow = {
  id: 3n,
  transport: Transport.UDP,
  source: { ip: "10.0.2.15", port: 4 },
  destination: { ip: "2001:db8::1", port: 53 },
};
const shown = {
  id: 3,
  transport: "udp",
  src: { ip: "10.0.2.15", port: 4 },
  dst: { ip: "2001:db8::1", port: 53 },
};

const events: [Event, unknown][] = [
  [
    { case: "denied", value: { flow, reason: FlowDenial.POLICY_FAILED, detail: "It threw" } },
    { type: "flow-denied", flow: shown, reason: "policy-failed", detail: "It threw" },
  ],
  [
    { case: "denied", value: { flow, reason: 99 as FlowDenial } },
    { type: "flow-denied", flow: shown, reason: "unknown", detail: "" },
  ],
  [
    { case: "failed", value: { flow, errno: "ECONNREFUSED" } },
    { type: "network-audit", record: { kind: "flow-failed", flow: shown, errno: "ECONNREFUSED" } },
  ],
  [
    {
      case: "closed",
      value: { flow, sentBytes: 5n, receivedBytes: 2n ** 40n, end: FlowEnd.GUEST_RESET },
    },
    {
      type: "network-audit",
      record: {
        kind: "flow-closed",
        flow: shown,
        sentBytes: 5,
        receivedBytes: 2 ** 40,
        end: "guest-reset",
      },
    },
  ],
  [
    {
      case: "dns",
      value: {
        flowId: 3n,
        name: "A.example.",
        recordType: "A",
        outcome: DnsOutcome.CACHED,
        detail: "NOERROR",
        addresses: ["192.0.2.1"],
      },
    },
    {
      type: "network-audit",
      record: {
        kind: "dns",
        flowId: 3,
        name: "A.example.",
        recordType: "A",
        outcome: "cached",
        detail: "NOERROR",
        addresses: ["192.0.2.1"],
      },
    },
  ],
  [
    {
      case: "http",
      value: {
        flowId: 3n,
        method: "GET",
        host: "a.example",
        path: "/x",
        receivedBytes: 9n,
        status: 200,
      },
    },
    {
      type: "network-audit",
      record: {
        kind: "http",
        flowId: 3,
        destination: "",
        method: "GET",
        host: "a.example",
        path: "/x",
        status: 200,
        sentBytes: 0,
        receivedBytes: 9,
        detail: "",
      },
    },
  ],
  [
    {
      case: "refused",
      value: { flowId: 3n, destination: "192.0.2.1:443", refusal: HttpRefusal.UPSTREAM_TLS },
    },
    {
      type: "network-audit",
      record: {
        kind: "connection-refused",
        flowId: 3,
        destination: "192.0.2.1:443",
        refusal: "upstream-tls",
        detail: "",
      },
    },
  ],
  [
    { case: "dropped", value: { cause: "fragment", total: 8n } },
    { type: "network-audit", record: { kind: "packets-dropped", cause: "fragment", total: 8 } },
  ],
  [
    { case: "callbackFailed", value: { message: "It threw" } },
    { type: "callback-failed", message: "It threw" },
  ],
];

for (const [wire, expected] of events) {
  test(`'${wire.case}' becomes ${JSON.stringify(expected).slice(0, 60)}…`, () => {
    const event = networkEvent(create(NetworkEventSchema, { event: wire }));
    assert.deepEqual(event, expected);
    assert.deepEqual(structuredClone(event), expected);
  });
}

test("a request that was refused without a response has a refusal and no status", () => {
  const value = { method: "GET", refusal: HttpRefusal.SECRET, detail: "TOKEN" };
  const event = networkEvent(create(NetworkEventSchema, { event: { case: "http", value } }));
  assert(event?.type === "network-audit" && event.record.kind === "http");
  assert.equal(event.record.refusal, "secret");
  assert(!("status" in event.record));
});

test("an event of a newer helper is left out", () => {
  assert.equal(networkEvent(create(NetworkEventSchema, {})), undefined);
});

test("each name of the protocol is documented", () => {
  const documented = readFileSync(new URL("../../src/network/audit.ts", import.meta.url), "utf8");
  for (const names of [FlowDenial, FlowEnd, DnsOutcome, HttpRefusal]) {
    for (const value of Object.values(names)) {
      if (typeof value !== "number" || value === 0) continue;
      assert(documented.includes(`"${kebab(names as never, value)}"`), String(value));
    }
  }
});
