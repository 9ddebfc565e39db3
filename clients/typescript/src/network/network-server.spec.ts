import assert from "node:assert/strict";
import { test } from "node:test";
import { type NetworkAnswer, Transport } from "../gen/lanebox/v1/network_pb.js";
import { FakeNetworkHost, flowTo } from "../testing/fake-network.js";
import { refused } from "../testing/harness.js";
import { deferred } from "../wait.js";
import type { NetworkConnection } from "./connection.js";
import type { PolicyCallback } from "./policy.js";
import type { InterceptedRequest } from "./request.js";

type Answer = NetworkAnswer["answer"];
const HTTPS = flowTo("192.0.2.1", 443, { names: ["api.example.com", "example.org"] });

async function withHost(callback: PolicyCallback, work: (host: FakeNetworkHost) => Promise<void>) {
  const host = new FakeNetworkHost(callback);
  await host.server.attached;
  try {
    await work(host);
  } finally {
    host.server.end();
    await host.server.done;
  }
}

/** The answer to one question about a flow. */
async function decided(callback: PolicyCallback, flow = HTTPS): Promise<Answer> {
  let answer: Answer = { case: undefined };
  await withHost(callback, async (host) => {
    answer = await host.decide(flow).answer;
  });
  return answer;
}

function decision(answer: Answer) {
  assert(answer.case === "decision", JSON.stringify(answer));
  return answer.value.decision;
}

function problem(answer: Answer): string {
  assert(answer.case === "problem", answer.case);
  return answer.value;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

test("a connection tells where it goes, as the host classified it", async () => {
  const seen: NetworkConnection[] = [];
  const flow = flowTo("10.0.2.2", 5353, {
    transport: Transport.UDP,
    kind: { private: true, host: true },
    names: ["host.lanebox.internal"],
  });
  await decided((conn) => void seen.push(conn), flow);
  const [conn] = seen;
  assert(conn !== undefined);
  assert.equal(conn.transport, "udp");
  assert.deepEqual([conn.src.ip, conn.src.port], ["10.0.2.15", 40_000]);
  const { ip, port, isHost, ...kinds } = conn.dst;
  assert.deepEqual([ip, port, isHost()], ["10.0.2.2", 5353, true]);
  assert.deepEqual(kinds, {
    isLoopback: false,
    isPrivate: true,
    isLinkLocal: false,
    isMulticast: false,
    isBroadcast: false,
    isDocumentation: false,
    isReserved: false,
    isPublicInternet: false,
  });
  assert.deepEqual(conn.names, ["host.lanebox.internal"]);
});

test("accept, deny, and no grant are what they say", async () => {
  const plain = decision(await decided((conn) => conn.accept()));
  assert(plain.case === "accept" && plain.value.linkLocal === false);
  const metadata = decision(await decided((conn) => conn.accept({ linkLocal: true })));
  assert(metadata.case === "accept" && metadata.value.linkLocal === true);
  const denied = decision(await decided(async (conn) => conn.deny("Not today")));
  assert(denied.case === "deny" && denied.value.reason === "Not today");
  const silent = decision(await decided(() => undefined));
  assert(silent.case === "deny");
  assert.match(silent.value.reason, /no grant/);
});

test("a long reason is cut where the protocol ends, visibly", async () => {
  const denied = decision(await decided((conn) => conn.deny("ü\ud800".repeat(900))));
  assert(denied.case === "deny");
  assert(Buffer.byteLength(denied.value.reason) <= 1024);
  assert.match(denied.value.reason, /^ü\ufffdü.*…$/u);
});

test("a throw, a rejection and a second decision deny, with the problem for the event", async () => {
  const thrown = await decided(() => {
    throw new Error("no idea");
  });
  assert.match(problem(thrown), /policy threw: Error: no idea/);
  assert.match(problem(await decided(() => Promise.reject("late no"))), /late no/);
  const granted = await decided((conn) => {
    conn.accept();
    throw new Error("on second thoughts");
  });
  assert.match(problem(granted), /second thoughts/);
  const uncaught = await decided((conn) => {
    conn.accept();
    conn.accept();
  });
  assert.match(problem(uncaught), /decided about twice/);
  const swallowed = await decided((conn) => {
    conn.accept();
    assert.throws(() => conn.deny(), refused("invalid-state", /decided about twice/));
  });
  assert.match(problem(swallowed), /decided about twice/);
});

test("a decision after the callback has returned has no effect and throws", async () => {
  let kept: NetworkConnection | undefined;
  const answer = decision(
    await decided((conn) => {
      kept = conn;
    }),
  );
  assert.equal(answer.case, "deny");
  assert.throws(() => kept?.accept(), refused("invalid-state", /too late: its callback/));
  assert.throws(() => kept?.acceptHttp(), refused("invalid-state", /too late/));
});

test("a cancelled question is answered once, when its callback settles, and grants nothing", async () => {
  const gate = deferred<void>();
  const errors: unknown[] = [];
  const callback: PolicyCallback = async (conn) => {
    if (conn.dst.port === 1) {
      await gate.promise;
      assert(conn.signal.aborted);
      try {
        conn.acceptHttp(() => undefined);
      } catch (error) {
        errors.push(error);
      }
    } else conn.accept();
  };
  await withHost(callback, async (host) => {
    const hanging = host.decide(flowTo("192.0.2.1", 1));
    host.cancel(hanging.id);
    assert.equal(decision(await host.decide(flowTo("192.0.2.1", 2)).answer).case, "accept");
    assert.equal(host.answers.length, 1);
    gate.resolve();
    assert.match(problem(await hanging.answer), /too late/);
    assert.equal(host.server.middlewares, 0);
    assert.equal(errors.length, 1);
    assert(refused("invalid-state", /deadline has passed/)(errors[0]));
    assert.deepEqual(
      host.answers.map(({ id }) => id),
      [2n, 1n],
    );
  });
});

test("hundreds of questions at once are each answered once, in whatever order", async () => {
  const gates: (() => void)[] = [];
  const callback: PolicyCallback = async (conn) => {
    await new Promise<void>((resolve) => gates.push(resolve));
    if (conn.dst.port % 2 === 0) conn.accept();
  };
  await withHost(callback, async (host) => {
    const asked = Array.from({ length: 400 }, (_, index) =>
      host.decide(flowTo("192.0.2.1", index)),
    );
    await until(() => gates.length === 400);
    for (const open of gates.reverse()) open();
    const answers = await Promise.all(asked.map(({ answer }) => answer));
    const kinds = answers.map((answer) => decision(answer).case);
    assert(kinds.every((kind, index) => kind === (index % 2 === 0 ? "accept" : "deny")));
    assert.equal(host.answers.length, 400);
  });
});

test("the end of the stream does not wait for a callback that hangs, and no rejection goes unhandled", async () => {
  const signals: AbortSignal[] = [];
  const gate = deferred<void>();
  const host = new FakeNetworkHost(async (conn) => {
    signals.push(conn.signal);
    await gate.promise;
    throw new Error("nobody hears this");
  });
  host.decide(HTTPS);
  await until(() => signals.length === 1);
  host.server.end();
  await host.server.done;
  assert(signals[0]?.aborted);
  gate.resolve();
  await new Promise(setImmediate);
  assert.deepEqual(host.warnings, []);
});

test("a stream that the host breaks off is told of", async () => {
  const host = new FakeNetworkHost(() => undefined);
  await host.server.attached;
  host.end(new Error("protocol"));
  await host.server.done;
  assert.match(host.warnings.join(), /not served any more.*protocol/);
});

test("a flow with a middleware has each request asked about until it is released", async () => {
  const seen: InterceptedRequest[] = [];
  const callback: PolicyCallback = (conn) => {
    conn.matchHttp("api.example.com")?.accept((request) => {
      seen.push(request);
      request.headers.set("Authorization", "Bearer t");
      request.headers.append("x-b", "3");
      request.headers.delete("X-Gone");
    });
  };
  await withHost(callback, async (host) => {
    const given = decision(await host.decide(HTTPS).answer);
    assert(given.case === "http" && given.value.middleware);
    assert.deepEqual(given.value.names, ["api.example.com"]);
    const headers = [
      ["x-b", "1"],
      ["authorization", "placeholder"],
      ["x-gone", "x"],
      ["x-b", "2"],
      ["x-bytes", "\xff\xfe"],
    ].map(([name = "", value = ""]) => ({ name, value: Buffer.from(value, "latin1") }));
    const answer = await host.http({
      url: "https://api.example.com/v1?q=1",
      headers,
      protocol: 2,
      destination: { ip: "192.0.2.1", port: 443 },
      hostname: "api.example.com",
      tls: { serverName: "api.example.com", alpn: "h2" },
    }).answer;
    assert(answer.case === "verdict" && answer.value.verdict.case === "forward");
    const sent = answer.value.verdict.value.headers.map(({ name, value }) => [
      name,
      Buffer.from(value).toString("latin1"),
    ]);
    assert.deepEqual(sent, [
      ["x-b", "1"],
      ["authorization", "Bearer t"],
      ["x-b", "2"],
      ["x-bytes", "\xff\xfe"],
      ["x-b", "3"],
    ]);
    const [request] = seen;
    assert(request !== undefined);
    assert.deepEqual([request.method, request.url], ["GET", "https://api.example.com/v1?q=1"]);
    assert.equal(request.protocol, "http2");
    assert.equal(request.destination.hostname, "api.example.com");
    assert.equal(request.destination.port, 443);
    assert.deepEqual(request.tls, { serverName: "api.example.com", alpn: "h2" });
    assert.equal(host.server.middlewares, 1);
    host.release(7n);
    assert.match(problem(await host.http().answer), /no middleware/);
    assert.equal(host.server.middlewares, 0);
  });
});

test("a request without a name, in the clear, has neither hostname nor tls", async () => {
  const seen: InterceptedRequest[] = [];
  await withHost(
    (conn) => conn.acceptHttp((request) => void seen.push(request)),
    async (host) => {
      const given = decision(await host.decide(HTTPS).answer);
      assert(given.case === "http" && given.value.names.length === 0);
      await host.http({ protocol: 1, destination: { ip: "192.0.2.1", port: 80 } }).answer;
    },
  );
  assert(seen[0] !== undefined && !("hostname" in seen[0].destination));
  assert.deepEqual([seen[0].protocol, seen[0].tls], ["http1", undefined]);
});

/** The answer about one request that a middleware decides about. */
async function handled(middleware: (request: InterceptedRequest) => unknown): Promise<Answer> {
  let answer: Answer = { case: undefined };
  await withHost(
    (conn) => conn.acceptHttp(middleware as () => void),
    async (host) => {
      await host.decide(HTTPS).answer;
      answer = await host.http({ headers: [{ name: "accept", value: Buffer.from("*/*") }] }).answer;
    },
  );
  return answer;
}

test("a middleware answers, with text or bytes", async () => {
  const answer = await handled((request) =>
    request.respond({ status: 418, headers: { "X-A": ["1", "2"] }, body: "ä" }),
  );
  assert(answer.case === "verdict" && answer.value.verdict.case === "respond");
  const { status, headers, body } = answer.value.verdict.value;
  assert.deepEqual([status, Buffer.from(body).toString()], [418, "ä"]);
  assert.deepEqual(
    headers.map(({ name, value }) => `${name}=${Buffer.from(value)}`),
    ["x-a=1", "x-a=2"],
  );
  const plain = await handled((request) => request.respond());
  assert(plain.case === "verdict" && plain.value.verdict.case === "respond");
  assert.equal(plain.value.verdict.value.status, 200);
});

test("a middleware refuses, with its reason", async () => {
  const answer = await handled(async (request) => request.deny("No such path for you"));
  assert(answer.case === "verdict" && answer.value.verdict.case === "deny");
  assert.equal(answer.value.verdict.value.reason, "No such path for you");
});

const failing: [string, (request: InterceptedRequest) => unknown, RegExp][] = [
  ["throws", () => Promise.reject(new Error("oops")), /threw: Error: oops/],
  [
    "throws what cannot be shown",
    () => {
      throw Object.create(null);
    },
    /cannot be shown/,
  ],
  ["answers with no status", (r) => r.respond({ status: 101 }), /response\.status.*200 to 599/],
  ["answers with too much", (r) => r.respond({ body: "x".repeat(2 ** 20 + 1) }), /response\.body/],
  ["frames its answer", (r) => r.respond({ headers: { "Content-Length": "3" } }), /content-length/],
  ["answers an unknown option", (r) => r.respond({ code: 1 } as never), /response\.code/],
  ["splits a header", (r) => r.headers.set("a", "b\r\nc: d"), /header a: expected/],
  ["names no header", (r) => r.headers.append("a b", "c"), /header name/],
  ["grows the head", (r) => r.headers.set("a", "x".repeat(300 * 1024)), /header fields/],
  [
    "answers twice",
    (r) => {
      r.respond();
      try {
        r.deny();
      } catch {
        // As a careless caller would.
      }
    },
    /decided about twice/,
  ],
];

for (const [what, middleware, message] of failing) {
  test(`a middleware that ${what} has its request refused`, async () => {
    assert.match(problem(await handled(middleware)), message);
  });
}

test("a middleware that hangs is cancelled, and its verdict comes to nothing", async () => {
  const gate = deferred<void>();
  const errors: unknown[] = [];
  const seen: InterceptedRequest[] = [];
  const middleware = async (request: InterceptedRequest) => {
    seen.push(request);
    await gate.promise;
    try {
      request.respond();
    } catch (error) {
      errors.push(error);
    }
  };
  await withHost(
    (conn) => conn.acceptHttp(middleware),
    async (host) => {
      await host.decide(HTTPS).answer;
      const { id, answer } = host.http();
      host.cancel(id);
      await until(() => seen[0]?.signal.aborted === true);
      assert.equal(host.answers.length, 1);
      gate.resolve();
      const late = await answer;
      assert.equal(late.case, "problem");
      assert(refused("invalid-state", /too late/)(errors[0]));
      assert.equal(host.answers.length, 2);
    },
  );
});

test("an answer that crossed its cancellation leaves no middleware", async () => {
  await withHost(
    (conn) => conn.acceptHttp(() => undefined),
    async (host) => {
      const { id, answer } = host.decide(HTTPS);
      await answer;
      assert.equal(host.server.middlewares, 1);
      host.cancel(id);
      await until(() => host.server.middlewares === 0);
    },
  );
});
