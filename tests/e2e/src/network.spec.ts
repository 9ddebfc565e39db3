/** The guest's network: default deny, rules, the policy's callback, names, published ports. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { type NetworkConnection, network, type PolicyCallback, type Vm } from "lanebox";
import { type DnsServer, dnsServer } from "./support/dns-server.js";
import { pingServer } from "./support/echo-server.js";
import { boot, shell } from "./support/lane.js";
import { NetworkEvents } from "./support/network-events.js";
import { eventually } from "./support/processes.js";
import { closedPort, type TcpServer, tcpServer } from "./support/tcp-server.js";

const HOST = "10.0.2.2";
/** For a hang, not for a slow machine. */
const LIMIT = { timeout: 300_000 };

/** Everything that a host connection sends, as text. */
function readAll(port: number, host: string, say = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect({ port, host, allowHalfOpen: true });
    socket.setEncoding("latin1");
    socket.on("data", (data) => {
      text += data;
    });
    socket.on("end", () => {
      socket.end();
      resolve(text);
    });
    socket.on("error", reject);
    if (say !== "") socket.end(say);
  });
}

describe("a lane without a network", LIMIT, () => {
  test("has no device and no way out", async () => {
    await using server = await tcpServer((socket) => socket.end("reached"));
    await using vm = await boot();
    assert.equal(await shell(vm, "ls /sys/class/net"), "lo");
    const result = await vm.exec("nc", ["-w", "2", HOST, String(server.port)]);
    assert.notEqual(result.exitCode, 0);
    assert.equal(server.connections, 0);
    await assert.rejects(vm.setNetwork(network.rules([])), { code: "invalid-state" });
    await assert.rejects(vm.publish({ guestPort: 80 }), { code: "invalid-state" });
  });
});

describe("a lane with a network", LIMIT, () => {
  let vm: Vm;
  let events: NetworkEvents;
  let dns: DnsServer;
  let greeter: TcpServer;

  before(async () => {
    dns = await dnsServer({
      "echo.test": [HOST],
      "alias.test": { alias: "echo.test" },
      "large.test": [HOST, "192.0.2.1", "192.0.2.2"],
      "outside.test": ["192.0.2.77"],
    });
    dns.truncated.add("large.test");
    greeter = await tcpServer((socket) => {
      socket.once("data", () => socket.end("hello from the host\n"));
    });
    vm = await boot({}, { network: network.rules([]) });
    events = new NetworkEvents(vm);
  });
  after(async () => {
    await vm?.close();
    await greeter?.[Symbol.asyncDispose]();
    await dns?.[Symbol.asyncDispose]();
  });

  /** Connects from the guest and sends a line; what came back, or the failure. */
  const connectTo = (port: number, host = HOST, line = "x") =>
    vm.exec("sh", ["-c", `echo ${line} | nc -w 20 ${host} ${port}`], { timeoutMs: 60_000 });
  const withPolicy = (callback: PolicyCallback, deadlineMs?: number) =>
    vm.setNetwork(network.policy(callback, { deadlineMs }));

  test("has eth0 with its address, and is told who it is", async () => {
    assert.match(await shell(vm, "ip addr show eth0"), /inet 10\.0\.2\.15\/24/);
    assert.match(await shell(vm, "ip -6 addr show eth0"), /fd00::15\/64/);
    assert.match(await shell(vm, "cat /etc/resolv.conf"), /nameserver 10\.0\.2\.1/);
  });

  test("denies by default: a reset, an event with the reason, and nothing leaves", async () => {
    const result = await connectTo(greeter.port);
    assert.notEqual(result.exitCode, 0);
    assert.match(result.stderr, /refused|reset/i);
    const denied = await events.denied(({ flow }) => flow.dst.port === greeter.port);
    assert.equal(denied.reason, "policy");
    assert.equal(denied.flow.transport, "tcp");
    assert.deepEqual(denied.flow.src.ip, "10.0.2.15");
    assert.equal(greeter.connections, 0);
    const lookup = await vm.exec("nslookup", ["denied.test", "10.0.2.1"], { timeoutMs: 60_000 });
    assert.notEqual(lookup.exitCode, 0);
    assert.deepEqual(dns.asked, []);
  });

  test("a rule allows DNS, by UDP and after truncation by TCP, through aliases", async () => {
    await vm.setNetwork(network.rules([{ allow: "dns", resolvers: dns.address }]));
    assert.match(await shell(vm, "nslookup -type=a alias.test 10.0.2.1"), /Address: 10\.0\.2\.2/);
    const record = await events.record("dns", ({ name }) => name.startsWith("alias.test"));
    assert.deepEqual(record.addresses, [HOST]);
    assert.equal(record.outcome, "answered");
    assert.match(await shell(vm, "nslookup -type=a large.test 10.0.2.1"), /192\.0\.2\.2/);
    assert.ok(dns.asked.includes("udp large.test") && dns.asked.includes("tcp large.test"));
    const own = await shell(vm, "nslookup -type=a host.lanebox.internal 10.0.2.1");
    assert.match(own, /Address: 10\.0\.2\.2/);
    assert.ok(!dns.asked.some((name) => name.includes("lanebox")));
  });

  test("a rule allows a trusted name and port, and nothing beside them", async () => {
    const other = await tcpServer((socket) => socket.end("no\n"));
    await using _ = other;
    const names = ["echo.test", "host.lanebox.internal"];
    await vm.setNetwork(
      network.rules([
        { allow: "dns", resolvers: dns.address },
        ...names.map((host) => ({
          allow: "tcp" as const,
          host,
          ports: greeter.port,
          allowPrivate: true,
        })),
      ]),
    );
    await shell(vm, "nslookup -type=a echo.test 10.0.2.1");
    assert.equal((await connectTo(greeter.port)).stdout, "hello from the host\n");
    assert.notEqual((await connectTo(other.port)).exitCode, 0);
    assert.equal(other.connections, 0);
  });

  test("the callback is asked once a flow, with what the host knows of it", async () => {
    const seen: NetworkConnection[] = [];
    await withPolicy((conn) => {
      seen.push(conn);
      if (conn.matchDns()?.accept({ resolvers: [dns.address] }) === undefined) {
        if (conn.transport === "tcp") conn.matchTcp(`${HOST}:${greeter.port}`)?.accept();
      }
    });
    await shell(vm, "nslookup -type=a echo.test 10.0.2.1");
    assert.equal((await connectTo(greeter.port)).stdout, "hello from the host\n");
    const [flow, ...more] = seen.filter(({ dst }) => dst.port === greeter.port);
    assert.ok(flow);
    assert.equal(more.length, 0);
    assert.deepEqual([flow.dst.ip, flow.dst.isHost(), flow.src.ip], [HOST, true, "10.0.2.15"]);
    assert.ok(flow.names.includes("echo.test"));
    const closed = await events.record(
      "flow-closed",
      ({ flow: { dst }, receivedBytes }) => dst.port === greeter.port && receivedBytes === 20,
    );
    assert.equal(closed.end, "finished");
    assert.equal(closed.sentBytes, 2);
  });

  test("a refused port is refused, and no event says denied", async () => {
    const port = await closedPort();
    await withPolicy((conn) => conn.accept());
    const result = await connectTo(port);
    assert.match(result.stderr, /refused/i);
    const failed = await events.record("flow-failed", ({ flow }) => flow.dst.port === port);
    assert.equal(failed.errno, "ECONNREFUSED");
  });

  test("a callback that throws, decides twice or hangs denies, and says so", async () => {
    await withPolicy((conn) => {
      if (conn.dst.port === 1) throw new Error("no idea");
      conn.accept();
      conn.accept();
    });
    for (const port of [1, 2]) {
      assert.notEqual((await connectTo(port)).exitCode, 0);
      const denied = await events.denied(({ flow }) => flow.dst.port === port);
      assert.equal(denied.reason, "policy-failed");
    }
    await events.callbackFailed(/no idea/);
    await events.callbackFailed(/decided about twice/);
    await withPolicy(() => new Promise(() => {}), 1000);
    assert.notEqual((await connectTo(3)).exitCode, 0);
    const late = await events.denied(({ flow }) => flow.dst.port === 3);
    assert.equal(late.reason, "deadline");
  });

  test("other flows go on while a callback thinks", async () => {
    let decide = () => {};
    const slow = new Promise<void>((resolve) => {
      decide = resolve;
    });
    await using second = await tcpServer((socket) => socket.end("second\n"));
    await withPolicy(async (conn) => {
      if (conn.dst.port === second.port) await slow;
      conn.accept();
    });
    const parked = connectTo(second.port);
    assert.equal((await connectTo(greeter.port)).stdout, "hello from the host\n");
    assert.equal(second.connections, 0);
    decide();
    assert.equal((await parked).stdout, "second\n");
  });

  test("an open flow goes on while the event loop is blocked for five seconds", async () => {
    await using ping = await pingServer();
    await withPolicy((conn) => conn.accept());
    const line = `mkfifo /tmp/f; exec nc ${HOST} ${ping.port} 0<>/tmp/f >&0`;
    const client = vm.spawn("sh", ["-c", line]);
    assert.ok(await eventually(() => ping.rounds() > 0, 60_000));
    const before = ping.rounds();
    ping.blockUntil(before + 20, 5000, 60_000);
    assert.ok(ping.rounds() >= before + 20);
    client.kill("SIGKILL");
    await client.exit;
  });

  test("the guest's end of input reaches the host, whose answer still arrives", async () => {
    await using server = await tcpServer((socket) => {
      let got = 0;
      socket.on("data", (data) => {
        got += data.length;
      });
      socket.on("end", () => socket.end(`got ${got}\n`));
    });
    await withPolicy((conn) => conn.accept());
    const line = `head -c 300000 /dev/zero | nc ${HOST} ${server.port}`;
    assert.equal(await shell(vm, line), "got 300000");
  });

  test("a policy that is replaced decides no new flow, and open ones stay", async () => {
    await using server = await tcpServer((socket) => {
      socket.on("data", (data) => socket.write(data));
      socket.on("end", () => socket.end());
    });
    await withPolicy((conn) => conn.accept());
    const open = vm.spawn("nc", [HOST, String(server.port)]);
    const writer = open.stdin.getWriter();
    const reader = open.stdout.getReader();
    await writer.write(Buffer.from("one\n"));
    assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), "one\n");
    await vm.setNetwork(network.rules([]));
    assert.notEqual((await connectTo(greeter.port)).exitCode, 0);
    await writer.write(Buffer.from("two\n"));
    assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), "two\n");
    await writer.close();
    await open.exit;
  });

  test("no address of the host but the one that stands for its loopback leads there", async () => {
    await withPolicy((conn) => conn.accept({ linkLocal: true }));
    const before = greeter.connections;
    for (const address of ["10.0.2.1", "0.0.0.0", "255.255.255.255"]) {
      assert.notEqual((await connectTo(greeter.port, address)).exitCode, 0, address);
    }
    assert.equal(greeter.connections, before);
  });

  test("a link-local address needs a grant of its own", async () => {
    await withPolicy((conn) => conn.accept());
    assert.notEqual((await connectTo(80, "169.254.169.254")).exitCode, 0);
    const denied = await events.denied(({ flow }) => flow.dst.ip === "169.254.169.254");
    assert.equal(denied.reason, "address");
  });

  test("ports of the guest are published on the host's loopback, IPv4 and IPv6, and unpublished", async () => {
    await vm.setNetwork(network.rules([]));
    await shell(vm, "echo served > /tmp/index.html");
    const httpd = vm.spawn("httpd", ["-f", "-p", "8000", "-h", "/tmp"]);
    await shell(vm, "while ! nc -w 1 127.0.0.1 8000 < /dev/null; do sleep 0.1; done");
    const published = await vm.publish({ guestPort: 8000 });
    assert.deepEqual(vm.published, [published]);
    assert.ok(published.hosts.includes("127.0.0.1"));
    for (const host of published.hosts) {
      const answer = await readAll(published.hostPort, host, "GET / HTTP/1.0\r\n\r\n");
      assert.match(answer, /^HTTP\/1\.[01] 200[\s\S]*served/, host);
    }
    await assert.rejects(vm.publish({ guestPort: 8000, hostPort: published.hostPort }));
    await vm.unpublish(published);
    assert.deepEqual(vm.published, []);
    for (const host of published.hosts) {
      await assert.rejects(readAll(published.hostPort, host), { code: "ECONNREFUSED" });
    }
    const refused = await vm.publish({ guestPort: 8001 });
    const outcome = await readAll(refused.hostPort, "127.0.0.1").catch(() => "");
    assert.equal(outcome, "");
    await vm.unpublish(refused);
    httpd.kill("SIGKILL");
    await httpd.exit;
  });
});
