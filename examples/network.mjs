// A lane whose network is decided by this program: it may ask for one name and speak HTTP with it, and
// a credential that it never sees is added on the way.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineSandbox, network, rootfs } from "lanebox";

const HOST = "host.lanebox.internal";

/** A certificate for the host's name that nobody believes yet. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-demo-"));
  try {
    const [key, cert] = [join(folder, "key"), join(folder, "cert")];
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const names = ["-subj", `/CN=${HOST}`, "-extensions", "v3_req", "-addext", `subjectAltName=DNS:${HOST}`];
    execFileSync("openssl", ["req", "-x509", ...kind, ...names, "-keyout", key, "-out", cert], { stdio: "pipe" });
    return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An origin on this host's loopback that notes which credential each request came with. */
async function listen(server, seen) {
  server.on("request", (request, response) => {
    seen.push(`${request.method} ${request.url} with ${request.headers.authorization ?? "no credential"}`);
    response.end(`the origin answers ${request.url}\n`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

/** Runs the lane; `run` and `show` are the demo's. */
export async function decideTheNetwork({ run, show }) {
  const own = certificate();
  const seen = [];
  const servers = [createHttpsServer(own), createHttpServer()];
  const [secure, plain] = await Promise.all(servers.map((server) => listen(server, seen)));
  const sandbox = defineSandbox({
    rootfs: rootfs.builtIn("debian:12"),
    resources: { cpus: 2, memoryMiB: 768 },
    isolation: { minimum: "emulated" },
    network: [
      network.rules([{ allow: "dns", host: HOST }]),
      network.policy(
        (conn) => {
          conn.matchHttp({ host: HOST, ports: [secure, plain] })?.accept(({ url, headers }) => {
            if (new URL(url).pathname.startsWith("/private/")) headers.set("authorization", "Bearer of-this-demo");
          });
        },
        { extraRoots: own.cert },
      ),
    ],
  });
  const vm = await sandbox.boot();
  const refused = new Set();
  const told = (async () => {
    for await (const event of vm.events()) {
      if (event.type === "flow-denied") show(`event: denied ${event.flow.transport} to ${event.flow.dst.ip}:${event.flow.dst.port} (${event.detail})`);
      const record = event.type === "network-audit" ? event.record : {};
      if (record.kind === "dns" && record.outcome === "refused" && !refused.has(record.name)) {
        refused.add(record.name);
        show(`event: refused to look up ${record.name} (${record.detail})`);
      }
      if (record.kind === "http") show(`event: ${record.method} ${record.host}${record.path} ${record.status}, ${record.receivedBytes} bytes`);
    }
  })();
  try {
    await run(vm, "curl -sS --max-time 20 https://example.com/");
    await run(vm, "curl -sS --max-time 20 http://192.0.2.1/");
    await run(vm, `curl -sS --max-time 20 https://${HOST}:${secure}/public http://${HOST}:${plain}/plain`);
    await run(vm, `curl -sS --max-time 20 https://${HOST}:${secure}/private/data`);
    await run(vm, "env | grep -c of-this-demo; cat /proc/[0-9]*/environ 2>/dev/null | grep -c of-this-demo");
  } finally {
    await vm.close();
    await told;
    for (const server of servers) server.close();
  }
  show("closed. What the origin saw:");
  for (const line of seen) show(line);
}
