import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DecideFlowCallSchema, Transport } from "../gen/lanebox/v1/network_pb.js";
import { flowTo } from "../testing/fake-network.js";
import { refused } from "../testing/harness.js";
import { type FlowVerdict, NetworkConnection } from "./connection.js";
import { Verdict } from "./verdict.js";

const signal = new AbortController().signal;

function connection(...flow: Parameters<typeof flowTo>) {
  const verdict = new Verdict<FlowVerdict>("flow", signal);
  const call = create(DecideFlowCallSchema, flowTo(...flow));
  return { conn: new NetworkConnection(call, verdict, signal), verdict };
}

const V4 = ["192.0.2.7", 8080] as const;
const V6 = ["2001:db8::7", 8080] as const;

const fits: [readonly [string, number], unknown, boolean][] = [
  [V4, "192.0.2.7:8080", true],
  [V4, "192.0.2.7:8081", false],
  [V4, "192.0.2.8:8080", false],
  [V4, "192.0.2.7", true],
  [V4, "192.0.2.0/24", true],
  [V4, "192.0.3.0/24", false],
  [V4, "0.0.0.0/0", true],
  [V4, "::/0", false],
  [V4, "::ffff:192.0.2.7", true],
  [V6, "[2001:db8::7]:8080", true],
  [V6, "[2001:DB8:0::7]:8080", true],
  [V6, "[2001:db8::7]:8081", false],
  [V6, "2001:db8::7", true],
  [V6, "2001:db8::/32", true],
  [V6, "2001:db9::/32", false],
  [V6, "::/0", true],
  [V6, "0.0.0.0/0", false],
  [V4, { ip: "192.0.2.7" }, true],
  [V4, { ip: "192.0.2.7", port: 8080 }, true],
  [V4, { ip: "192.0.2.7", port: 80 }, false],
  [V4, { cidr: ["10.0.0.0/8", "192.0.2.0/28"], ports: "8000-8100" }, true],
  [V4, { cidr: "10.0.0.0/8" }, false],
  [V4, { ports: [22, "8081-8090"] }, false],
  [V4, { port: 8080, ports: 22 }, false],
  [V4, { ip: "192.0.2.7", cidr: "10.0.0.0/8" }, false],
  [V4, (dst: { port: number }) => dst.port === 8080, true],
  [V4, () => false, false],
];

for (const [[ip, port], match, expected] of fits) {
  const shown = typeof match === "function" ? match.toString() : JSON.stringify(match);
  test(`${ip} at ${port} ${expected ? "fits" : "does not fit"} ${shown}`, () => {
    const tcp = connection(ip, port).conn;
    assert.equal(tcp.matchTcp(match as string) !== null, expected);
    assert.equal(tcp.matchUdp(match as string), null);
    const udp = connection(ip, port, { transport: Transport.UDP }).conn;
    assert.equal(udp.matchUdp(match as string) !== null, expected);
    assert.equal(udp.matchTcp(match as string), null);
  });
}

const senseless: [unknown, RegExp][] = [
  [undefined, /matchTcp: expected/],
  [7, /matchTcp: expected an object, got 7/],
  ["example.com:80", /"ip:port".*'example.com:80'/],
  ["192.0.2.7:0", /'192.0.2.7:0'/],
  ["192.0.2.7:65536", /got/],
  ["2001:db8::7:8080:1::", /got/],
  ["fe80::1%eth0", /got/],
  ["192.0.2.1/24", /got/],
  ["192.0.2.0/33", /got/],
  [{}, /at least one of ip, cidr/],
  [{ cidr: [] }, /matchTcp\.cidr: expected 1 to 256/],
  [{ ip: "10.0.0.0/8" }, /matchTcp\.ip: expected an IP address/],
  [{ port: 0 }, /matchTcp\.port/],
  [{ ports: "9-8" }, /matchTcp\.ports.*'9-8'/],
  [{ host: "example.com" }, /matchTcp\.host: unknown option/],
  [async () => true, /synchronous/],
  [() => Promise.reject(new Error("never unhandled")), /synchronous/],
  // biome-ignore lint/suspicious/noThenProperty: what a predicate must not answer
  [() => ({ then: () => undefined }), /synchronous/],
  [() => 1, /true or false, got 1/],
];

for (const [index, [match, message]] of senseless.entries()) {
  test(`a matcher that makes no sense is an error (${index}: ${message})`, () => {
    const { conn } = connection(...V4);
    assert.throws(() => conn.matchTcp(match as string), refused("invalid-argument", message));
  });
}

test("an asynchronous predicate is an error for whatever flow", () => {
  const { conn } = connection(...V4, { transport: Transport.UDP });
  assert.throws(() => conn.matchTcp((async () => true) as never), /synchronous/);
  assert.throws(() => conn.matchHttp((async () => true) as never), /synchronous/);
});

const names = ["api.example.com", "example.com", "xn--bcher-kva.example"];
const named: [unknown, number, string[]][] = [
  ["api.example.com", 443, ["api.example.com"]],
  ["API.Example.COM.", 80, ["api.example.com"]],
  ["api.example.com", 8443, []],
  ["api.example.com:8443", 8443, ["api.example.com"]],
  ["api.example.com:8443", 443, []],
  ["*.example.com", 443, ["api.example.com"]],
  ["*.EXAMPLE.com.:8443", 8443, ["api.example.com"]],
  ["*.com", 443, ["api.example.com", "example.com"]],
  ["ample.com", 443, []],
  ["xn--bcher-kva.example", 443, ["xn--bcher-kva.example"]],
  [{ host: ["example.com", "*.example"] }, 80, ["example.com", "xn--bcher-kva.example"]],
  [{ host: "example.com" }, 81, []],
  [{ host: "example.com", port: 81 }, 81, ["example.com"]],
  [{ host: "example.com", ports: "1-65535" }, 81, ["example.com"]],
  [({ hostname }: { hostname: string }) => hostname.startsWith("api."), 81, ["api.example.com"]],
  [({ port }: { port: number }) => port === 80, 81, []],
];

for (const [match, port, expected] of named) {
  const shown = typeof match === "function" ? match.toString() : JSON.stringify(match);
  test(`matchHttp(${shown}) at port ${port} is for [${expected}]`, () => {
    const { conn, verdict } = connection("192.0.2.7", port, { names });
    const result = conn.matchHttp(match as string);
    assert.deepEqual(result?.names ?? [], expected);
    if (result === null) return;
    result.accept();
    const { decision } = verdict.decision ?? {};
    assert(decision?.case === "http");
    assert.deepEqual(decision.value.names, expected);
    assert.deepEqual([decision.value.allowPrivate, decision.value.middleware], [false, false]);
  });
}

test("matchHttp needs a trusted name and TCP, whatever fits", () => {
  assert.equal(
    connection("192.0.2.7", 443).conn.matchHttp(() => true),
    null,
  );
  const udp = connection("192.0.2.7", 443, { names, transport: Transport.UDP });
  assert.equal(udp.conn.matchHttp("example.com"), null);
});

test("matchHttp grants private addresses when it says so", () => {
  const { conn, verdict } = connection("10.0.0.1", 443, { names, kind: { private: true } });
  conn.matchHttp("example.com", { allowPrivate: true })?.accept(() => undefined);
  const { decision, middleware } = verdict.decision ?? {};
  assert(decision?.case === "http" && decision.value.allowPrivate && decision.value.middleware);
  assert.equal(typeof middleware, "function");
});

for (const [match, message] of [
  ["1.2.3.4", /an address has no trusted name.*'1.2.3.4'/],
  ["[::1]:443", /an address/],
  ["a b", /'a b'/],
  ["bücher.example", /'bücher.example'/],
  ["*", /'\*'/],
  ["a.*.example", /got/],
  ["example.com:0", /port/],
  ["example.com:99999", /port/],
  ["", /got ''/],
  [undefined, /matchHttp/],
  [{ port: 443 }, /matchHttp\.host/],
  [{ host: [] }, /matchHttp\.host/],
  [{ host: "1.2.3.4" }, /matchHttp\.host.*no address/],
] as [unknown, RegExp][]) {
  test(`matchHttp(${JSON.stringify(match)}) makes no sense`, () => {
    const { conn } = connection("192.0.2.7", 443, { names });
    assert.throws(() => conn.matchHttp(match as string), refused("invalid-argument", message));
  });
}

test("matchDns is for flows to the resolver, and those are for nothing else", () => {
  assert.equal(connection("9.9.9.9", 53, { transport: Transport.UDP }).conn.matchDns(), null);
  const flow = { toResolver: true, transport: Transport.UDP };
  const { conn, verdict } = connection("10.0.2.1", 53, flow);
  assert.equal(conn.matchUdp("10.0.2.1:53"), null);
  const match = conn.matchDns();
  assert(match !== null);
  for (const resolvers of [["localhost"], ["1.1.1.1:0"], Array(17).fill("1.1.1.1"), [7]]) {
    assert.throws(() => match.accept({ resolvers }), refused("invalid-argument", /resolvers/));
  }
  match.accept({ resolvers: ["127.0.0.1:5353", "[::1]:53", "9.9.9.9", "2001:db8::1"] });
  const { decision } = verdict.decision ?? {};
  assert(decision?.case === "resolve");
  assert.deepEqual(decision.value.resolvers, [
    "127.0.0.1:5353",
    "[::1]:53",
    "9.9.9.9",
    "2001:db8::1",
  ]);
  const plain = connection("10.0.2.1", 53, flow);
  plain.conn.matchDns()?.accept();
  const own = plain.verdict.decision?.decision;
  assert(own?.case === "resolve" && own.value.resolvers.length === 0);
});

test("acceptHttp is for TCP, and takes a function", () => {
  const udp = connection("192.0.2.7", 443, { transport: Transport.UDP });
  assert.throws(() => udp.conn.acceptHttp(), refused("invalid-state", /for TCP/));
  const { conn } = connection("192.0.2.7", 443);
  assert.throws(() => conn.acceptHttp("no" as never), refused("invalid-argument", /middleware/));
  assert.throws(() => conn.accept({ linklocal: true } as never), /linklocal: unknown option/);
  assert.throws(() => conn.accept({ linkLocal: "yes" } as never), /linkLocal: expected true/);
});
