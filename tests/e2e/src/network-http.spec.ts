/** HTTP and TLS of the guest under a policy: names, credentials, secrets, middlewares, protocols. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type HttpMiddleware, network, type PolicyCallback, rootfs, type Vm } from "lanebox";
import { aptRepository } from "./support/apt-repository.js";
import { authority } from "./support/certificates.js";
import { type DnsServer, dnsServer } from "./support/dns-server.js";
import { boot, DEBIAN, shell } from "./support/lane.js";
import { NetworkEvents } from "./support/network-events.js";
import { type Origin, origin } from "./support/origin.js";
import { Reading } from "./support/streams.js";
import { tcpServer } from "./support/tcp-server.js";
import { udpEcho } from "./support/udp-server.js";

const HOST = "10.0.2.2";
const CREDENTIAL = "Bearer credential-that-stays-on-the-host";
const SECRET = "secret-that-stays-on-the-host";

describe("HTTP of the guest", { timeout: 400_000 }, () => {
  const ca = authority();
  const secrets = network.secrets({
    API_TOKEN: { value: SECRET, hosts: "api.test", inQuery: true },
  });
  let folder: string;
  let dns: DnsServer;
  let plain: Origin;
  let secure: Origin;
  let second: Origin;
  let modern: Origin;
  let vm: Vm;
  let events: NetworkEvents;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "lanebox-origin-"));
    dns = await dnsServer({
      "api.test": [HOST],
      "other.test": [HOST],
      "rebound.test": [HOST],
      "alias.test": { alias: "api.test" },
    });
    const names = ["api.test", "other.test", "rebound.test", "host.lanebox.internal"];
    const certificate = ca.issue(names);
    plain = await origin({ kind: "http" });
    secure = await origin({ kind: "https", certificate, files: folder });
    second = await origin({ kind: "https", certificate: ca.issue(["other.test"]) });
    modern = await origin({ kind: "http2", certificate });
    vm = await boot({}, { rootfs: rootfs.builtIn(DEBIAN), network: [network.rules([]), secrets] });
    events = new NetworkEvents(vm);
  });
  after(async () => {
    await vm?.close();
    for (const server of [plain, secure, second, modern, dns]) {
      await server?.[Symbol.asyncDispose]();
    }
    rmSync(folder, { recursive: true });
  });

  /** DNS by the local resolver, and what the callback grants. */
  const withPolicy = (callback: PolicyCallback, deadlineMs?: number) =>
    vm.setNetwork([
      network.rules([{ allow: "dns", resolvers: dns.address }]),
      network.policy(callback, { deadlineMs, extraRoots: ca.root }),
      secrets,
    ]);
  /** Lets HTTP to api.test through, at any port. */
  const withMiddleware = (middleware?: HttpMiddleware, deadlineMs?: number) =>
    withPolicy((conn) => {
      const match = { host: "api.test", ports: "1-65535" } as const;
      conn.matchHttp(match, { allowPrivate: true })?.accept(middleware);
    }, deadlineMs);
  const curl = (...args: string[]) =>
    vm.exec("curl", ["-sS", "--max-time", "60", ...args], { timeoutMs: 90_000 });
  const STATUS = ["-o", "/dev/null", "-w", "%{http_code}"];

  test("an injected credential arrives upstream, over TLS that the guest believes, and nowhere in the guest", async () => {
    await withMiddleware(({ headers }) => headers.set("Authorization", CREDENTIAL));
    secure.paths.set("/echo", (request, response) => {
      response.setHeader("X-Echo", request.headers.authorization ?? "");
      response.end("fine\n");
    });
    const result = await curl("-i", "-v", `https://api.test:${secure.port}/echo`);
    assert.equal(result.exitCode, 0, result.stderr);
    assert.match(result.stdout, /^HTTP\/1\.1 200[\s\S]*fine\n$/);
    assert.equal(secure.of("/echo")[0]?.headers.authorization, CREDENTIAL);
    const value = CREDENTIAL.slice("Bearer ".length);
    assert.ok(!(result.stdout + result.stderr).includes(value));
    const found = await vm.exec("sh", [
      "-c",
      `cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c '^[^=]*=.*stays-on-the-host'; grep -rl stays-on-the-host /run /etc 2>/dev/null`,
    ]);
    assert.equal(found.stdout, "0\n");
    const record = await events.record("http", ({ path }) => path === "/echo");
    assert.deepEqual([record.method, record.status, record.receivedBytes], ["GET", 200, 5]);
    assert.match(record.host, /^api\.test/);
  });

  test("the host's own name needs no grant of private addresses", async () => {
    await withPolicy((conn) => {
      const match = `host.lanebox.internal:${secure.port}`;
      conn.matchHttp(match)?.accept(({ headers }) => headers.set("x-injected", "yes"));
    });
    const result = await curl(`https://host.lanebox.internal:${secure.port}/hello`);
    assert.equal(result.stdout, "hello\n", result.stderr);
    assert.equal(secure.of("/hello").at(-1)?.headers["x-injected"], "yes");
  });

  test("without middleware and secrets TLS stays closed, and with one apt installs through it", async () => {
    const base = rootfs.builtIn(DEBIAN);
    const dnsRule = { allow: "dns", resolvers: dns.address } as const;
    const rule = {
      allow: "http",
      host: "api.test",
      ports: secure.port,
      allowPrivate: true,
    } as const;
    await using other = await boot(
      {},
      { rootfs: rootfs.ephemeral({ base }), network: network.rules([dnsRule, rule]) },
    );
    const url = `https://api.test:${secure.port}`;
    const unbelieved = await other.exec("curl", ["-sS", `${url}/hello`]);
    assert.equal(unbelieved.exitCode, 60, unbelieved.stderr);
    const line = `cat > /tmp/ca.pem; curl -sS --cacert /tmp/ca.pem ${url}/hello`;
    const believed = await other.exec("sh", ["-c", line], { stdin: ca.root });
    assert.equal(believed.stdout, "hello\n", believed.stderr);

    aptRepository(join(folder, "apt"));
    const seen: string[] = [];
    const policy = network.policy(
      (conn) => {
        const match = conn.matchHttp(`api.test:${secure.port}`, { allowPrivate: true });
        match?.accept((request) => void seen.push(request.url));
      },
      { extraRoots: ca.root },
    );
    await other.setNetwork([network.rules([dnsRule]), policy]);
    const source = `deb [trusted=yes] ${url}/files/apt ./`;
    const only = "-o Dir::Etc::sourcelist=/tmp/ours.list -o Dir::Etc::sourceparts=-";
    const install = `echo '${source}' > /tmp/ours.list && apt-get ${only} -q update && apt-get ${only} -q -y install lanebox-probe && cat /opt/probe`;
    const installed = await other.exec("sh", ["-c", install], { timeoutMs: 240_000 });
    assert.match(installed.stdout, /installed by apt\n$/, installed.stdout + installed.stderr);
    assert.ok(seen.some((one) => one.endsWith(".deb")));
  });

  test("a redirect to another host goes without the credential", async () => {
    await withPolicy((conn) => {
      const grant = { allowPrivate: true };
      conn
        .matchHttp(`api.test:${secure.port}`, grant)
        ?.accept(({ headers }) => headers.set("Authorization", CREDENTIAL));
      conn.matchHttp(`other.test:${second.port}`, grant)?.accept(() => {});
    });
    secure.paths.set("/away", (_, response) => {
      response.writeHead(302, { Location: `https://other.test:${second.port}/hello` });
      response.end();
    });
    const result = await curl("-L", `https://api.test:${secure.port}/away`);
    assert.equal(result.stdout, "hello\n", result.stderr);
    assert.equal(secure.of("/away")[0]?.headers.authorization, CREDENTIAL);
    assert.equal(second.of("/hello").length, 1);
    assert.equal(second.of("/hello")[0]?.headers.authorization, undefined);
  });

  test("another Host or SNI than the trusted name goes nowhere", async () => {
    await withMiddleware(({ headers }) => headers.set("Authorization", CREDENTIAL));
    const before = secure.requests.length + plain.requests.length;
    const host = await curl(
      ...STATUS,
      "-H",
      "Host: other.test",
      `https://api.test:${secure.port}/x`,
    );
    assert.equal(host.stdout, "403", host.stderr);
    const sni = `other.test:${secure.port}:${HOST}`;
    const other = await curl(
      ...STATUS,
      "-k",
      "--resolve",
      sni,
      `https://other.test:${secure.port}/x`,
    );
    assert.notEqual(other.stdout, "200");
    const inTheClear = ["-H", "Host: other.test", `http://api.test:${plain.port}/x`];
    assert.equal((await curl(...STATUS, ...inTheClear)).stdout, "403");
    assert.equal(secure.requests.length + plain.requests.length, before);
    await events.record("http", ({ refusal }) => refusal === "name");
  });

  test("a name that leads to a private address is refused unless that is granted", async () => {
    await withPolicy((conn) => {
      conn.matchHttp(`rebound.test:${secure.port}`)?.accept(() => {});
    });
    const before = secure.requests.length;
    const result = await curl(...STATUS, `https://rebound.test:${secure.port}/hello`);
    assert.notEqual(result.stdout, "200");
    assert.equal(secure.requests.length, before);
    await events.record("connection-refused", ({ refusal }) => refusal === "private");
  });

  test("a rule adds header fields without a call into this program", async () => {
    await vm.setNetwork([
      network.rules(
        [
          { allow: "dns", host: "api.test", resolvers: dns.address },
          {
            allow: "http",
            host: "*.test",
            ports: secure.port,
            headers: { Authorization: CREDENTIAL, "X-Two": ["1", "2"] },
            allowPrivate: true,
          },
        ],
        { extraRoots: ca.root },
      ),
      secrets,
    ]);
    secure.paths.set("/ruled", (_, response) => response.end("ruled\n"));
    const url = `https://api.test:${secure.port}/ruled`;
    const result = await curl("-H", "Authorization: of the guest", url);
    assert.equal(result.stdout, "ruled\n", result.stderr);
    const request = secure.of("/ruled")[0];
    assert.equal(request?.headers.authorization, CREDENTIAL);
    assert.equal(request?.headers["x-two"], "1, 2");
    const other = await vm.exec("getent", ["hosts", "never-asked.test"], { timeoutMs: 90_000 });
    assert.notEqual(other.exitCode, 0);
    await events.record("dns", ({ name, outcome }) => {
      return name.startsWith("never-asked.test") && outcome === "refused";
    });
  });

  test("what is neither HTTP nor TLS fails closed", async () => {
    await withMiddleware(() => {});
    const line = `getent hosts api.test && exec 3<>/dev/tcp/${HOST}/${plain.port} && printf 'SSH-2.0-x\\r\\n' >&3 && cat <&3`;
    const result = await vm.exec("bash", ["-c", line], { timeoutMs: 90_000 });
    assert.doesNotMatch(result.stdout, /HTTP\/1/);
    await events.record("connection-refused", ({ refusal }) => refusal === "not-http");
  });

  test("a secret is a placeholder in the guest, itself upstream, and blocked on its way elsewhere", async () => {
    await withPolicy((conn) => {
      const grant = { allowPrivate: true };
      conn.matchHttp(`api.test:${secure.port}`, grant)?.accept();
      conn.matchHttp(`other.test:${second.port}`, grant)?.accept();
    });
    const placeholder = await shell(vm, "echo $API_TOKEN");
    assert.ok(placeholder.length > 20 && !placeholder.includes(SECRET));
    secure.paths.set("/secret", (_, response) => response.end("taken\n"));
    const line = `curl -sS -H "Authorization: Bearer $API_TOKEN" "https://api.test:${secure.port}/secret?k=$API_TOKEN"`;
    assert.equal(await shell(vm, line), "taken");
    const request = secure.of("/secret")[0];
    assert.equal(request?.headers.authorization, `Bearer ${SECRET}`);
    const basic = `curl -sS -u "user:$API_TOKEN" https://api.test:${secure.port}/secret`;
    await shell(vm, basic);
    const coded = Buffer.from(`user:${SECRET}`).toString("base64");
    assert.equal(secure.of("/secret")[1]?.headers.authorization, `Basic ${coded}`);
    const before = second.requests.length;
    const leak = `curl -sS -o /dev/null -w '%{http_code}' -H "X-Token: $API_TOKEN" https://other.test:${second.port}/hello`;
    assert.equal(await shell(vm, leak), "403");
    assert.equal(second.requests.length, before);
    const record = await events.record("http", ({ refusal }) => refusal === "secret");
    assert.ok(!JSON.stringify(record).includes(SECRET));
  });

  test("a middleware sees the request, answers it itself, or refuses it with its reason", async () => {
    const seen: string[] = [];
    await withMiddleware((request) => {
      const { method, url, protocol, destination, tls } = request;
      seen.push(`${method} ${url} ${protocol} ${destination.hostname} ${tls?.serverName}`);
      if (url.endsWith("/own")) {
        request.respond({ status: 418, headers: [["x-own", "1"]], body: "short and stout\n" });
      } else request.deny("No such path for you");
    });
    const before = secure.requests.length;
    const own = await curl("-i", "-X", "PUT", "-d", "body", `https://api.test:${secure.port}/own`);
    assert.match(own.stdout, /^HTTP\/1\.1 418[\s\S]*x-own: 1[\s\S]*short and stout\n$/i);
    const denied = await curl("-i", `https://api.test:${secure.port}/no`);
    assert.match(denied.stdout, /^HTTP\/1\.1 403[\s\S]*No such path for you/);
    assert.equal(secure.requests.length, before);
    assert.equal(seen[0], `PUT https://api.test:${secure.port}/own http1 api.test api.test`);
  });

  test("a middleware that throws or hangs refuses the request, and others go on", async () => {
    await withMiddleware((request) => {
      if (request.url.endsWith("/throw")) throw new Error("out of order");
      return request.url.endsWith("/hang") ? new Promise(() => {}) : undefined;
    }, 3000);
    const hanging = curl(...STATUS, `https://api.test:${secure.port}/hang`);
    assert.equal((await curl(...STATUS, `https://api.test:${secure.port}/throw`)).stdout, "403");
    const fine = await curl(`https://api.test:${secure.port}/hello`);
    assert.equal(fine.stdout, "hello\n", fine.stderr);
    assert.equal((await hanging).stdout, "403");
    await events.callbackFailed(/out of order/);
    assert.equal(secure.of("/hang").length + secure.of("/throw").length, 0);
  });

  test("bodies stream both ways, duplicates of headers stay", async () => {
    await withMiddleware(({ headers }) => headers.append("X-Many", "3"));
    plain.paths.set("/count", (request, response) => {
      let got = 0;
      request.on("data", (data) => {
        got += data.length;
      });
      request.on("end", () => {
        response.setHeader("Set-Cookie", ["a=1", "b=2"]);
        response.end(`got ${got}\n`);
      });
    });
    const line = `head -c 20000000 /dev/zero | curl -sS -i -T - -H 'X-Many: 1' -H 'X-Many: 2' http://api.test:${plain.port}/count`;
    const text = await shell(vm, line);
    assert.match(text, /set-cookie: a=1\r\nset-cookie: b=2\r\n[\s\S]*got 20000000$/i);
    const request = plain.of("/count")[0];
    const many = request?.raw.filter((_, index, raw) => raw[index - 1]?.toLowerCase() === "x-many");
    assert.deepEqual(many, ["1", "2", "3"]);
    const size = await curl(
      "-o",
      "/dev/null",
      "-w",
      "%{size_download}",
      `http://api.test:${plain.port}/big`,
    );
    assert.equal(size.stdout, String(8 << 20), size.stderr);
  });

  test("server-sent events arrive one by one", async () => {
    await withMiddleware(() => {});
    let send = (_: string) => {};
    secure.paths.set("/events", (_, response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      send = (text) => response.write(`data: ${text}\n\n`);
      send("first");
    });
    const client = vm.spawn("curl", ["-sSN", `https://api.test:${secure.port}/events`]);
    const reading = new Reading(client.stdout);
    await reading.until("data: first\n\n");
    send("second"); // after the first has been read
    await reading.until("data: second\n\n");
    client.kill("SIGKILL");
    await client.exit;
  });

  test("a WebSocket is upgraded, with the credential, and echoes", async () => {
    await withMiddleware(({ headers }) => headers.set("Authorization", CREDENTIAL));
    const upgrade = `GET /socket HTTP/1.1\\r\\nHost: api.test:${plain.port}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n`;
    // A masked text frame "hi" with the mask 1 2 3 4.
    const frame = "\\x81\\x82\\x01\\x02\\x03\\x04\\x69\\x6b";
    const line = `getent hosts api.test; exec 3<>/dev/tcp/${HOST}/${plain.port}; printf '${upgrade}' >&3; while read -r l <&3; do echo "$l"; [ "$l" = $'\\r' ] && break; done; printf '${frame}' >&3; head -c 4 <&3 | od -An -tx1`;
    const result = await vm.exec("bash", ["-c", line], { timeoutMs: 90_000 });
    assert.match(result.stdout, /HTTP\/1\.1 101[\s\S]*x-kind: echo[\s\S]* 81 02 68 69/i);
    assert.equal(plain.of("/socket")[0]?.headers.authorization, CREDENTIAL);
  });

  test("HTTP/2 from end to end, many streams at once", async () => {
    await withMiddleware(({ headers, protocol }) => headers.set("x-protocol", protocol));
    const urls = Array.from(
      { length: 20 },
      (_, n) => `https://api.test:${modern.port}/hello?n=${n}`,
    );
    const result = await curl("--http2", "-Z", "-w", "%{http_version}\\n", ...urls);
    assert.equal(result.exitCode, 0, result.stderr);
    assert.equal(result.stdout.match(/^2$/gm)?.length, 20);
    assert.equal(result.stdout.match(/^hello$/gm)?.length, 20);
    const requests = modern.of("/hello");
    assert.equal(requests.length, 20);
    assert.ok(
      requests.every(
        ({ version, headers }) => version === "2.0" && headers["x-protocol"] === "http2",
      ),
    );
  });

  test("the host's end of output reaches the guest, whose input still arrives", async () => {
    const heard: string[] = [];
    await using server = await tcpServer((socket) => {
      socket.on("data", (data) => heard.push(data.toString()));
      socket.end("that is all\n");
    });
    await withPolicy((conn) => conn.accept());
    const line = `exec 3<>/dev/tcp/${HOST}/${server.port}; cat <&3; echo still here >&3`;
    assert.equal((await vm.exec("bash", ["-c", line])).stdout, "that is all\n");
    for (const end = Date.now() + 60_000; heard.length === 0 && Date.now() < end; ) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(heard.join(""), "still here\n");
  });

  test("datagrams go both ways once they are accepted, and are refused before", async () => {
    await using server = await udpEcho();
    const line = `exec 3<>/dev/udp/${HOST}/${server.port}; echo over >&3 && timeout 60 head -c 5 <&3`;
    const say = () => vm.exec("bash", ["-c", line], { timeoutMs: 90_000 });
    await withPolicy(() => {});
    assert.equal((await say()).stdout, "");
    const denied = await events.denied(({ flow }) => flow.dst.port === server.port);
    assert.equal(denied.flow.transport, "udp");
    assert.equal(server.datagrams(), 0);
    await withPolicy((conn) => conn.matchUdp({ ip: HOST, port: server.port })?.accept());
    assert.equal((await say()).stdout, "over\n");
    assert.equal(server.datagrams(), 1);
  });

  test("git clones over HTTPS with a credential that it never had", async () => {
    const work = join(folder, "work");
    const git = (cwd: string, ...args: string[]) =>
      execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@t.test", ...args], {
        cwd,
        stdio: "pipe",
      });
    git(folder, "init", "-q", "-b", "main", work);
    writeFileSync(join(work, "file"), "cloned\n");
    git(work, "add", "file");
    git(work, "commit", "-q", "-m", "one");
    git(folder, "clone", "-q", "--bare", work, join(folder, "repo.git"));
    git(join(folder, "repo.git"), "update-server-info");
    await withMiddleware(({ headers }) => headers.set("Authorization", CREDENTIAL));
    const url = `https://api.test:${secure.port}/files/repo.git`;
    assert.equal(await shell(vm, `git clone -q ${url} /tmp/repo && cat /tmp/repo/file`), "cloned");
    const fetched = secure.requests.filter(({ path }) => path.startsWith("/files/repo.git/"));
    assert.ok(fetched.length > 0);
    assert.ok(fetched.every(({ headers }) => headers.authorization === CREDENTIAL));
  });
});
