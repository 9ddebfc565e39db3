/**
 * The benchmark of interception, without a VM: small HTTPS requests on kept connections from a network
 * namespace to the loopback of another, through our stack as a plain relay, through our interception,
 * and through our relay to mitmproxy. What is measured is done by the three in turn. Nothing leaves
 * the namespaces. Needs root.
 *
 * usage: interception.js NETSTACK_TAP NETSTACK_ORIGIN MITMPROXY_PYTHON
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addNamespace, endAll, HOST, ip, run, start } from "./namespaces.js";
import { median, percentile, report } from "./statistics.js";

const ROUNDS = 3;
const SECONDS = 3;
const CONNECTIONS = [1, 16];
const ORIGIN_PORT = 7443;
const PROXY_PORT = 7444;
const ADDRESS = "10.0.2.2";
const MITMDUMP = "from mitmproxy.tools.main import mitmdump; mitmdump()";

const [tap, origin, python] = process.argv.slice(2);
if (tap === undefined || origin === undefined || python === undefined) {
  throw new Error("usage: interception.js TAP ORIGIN PYTHON");
}
const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
const root = join(folder, "root.pem");

/** One way to the origin. */
interface Way {
  name: "relay" | "ours" | "mitmproxy";
  port: number;
  /** What our stack lets through, and what it does with it. */
  options: string[];
}

const INJECT = "authorization: Bearer for-the-origin-only";
const WAYS: Way[] = [
  { name: "relay", port: ORIGIN_PORT, options: ["--allow", "tcp"] },
  {
    name: "ours",
    port: ORIGIN_PORT,
    options: ["--allow", `http,ports=${ORIGIN_PORT}`, "--trust", root, "--header", INJECT],
  },
  { name: "mitmproxy", port: PROXY_PORT, options: ["--allow", "tcp"] },
];

function namespaceOf(way: Way): string {
  return `${HOST}-${way.name}`;
}

async function connect(way: Way): Promise<void> {
  const namespace = namespaceOf(way);
  addNamespace(namespace);
  const command = [tap ?? "", "--netns", namespace, ...way.options, "--quiet"];
  await start(HOST, command, "ready");
  ip("-n", namespace, "link", "set", "tap0", "mtu", "65520", "up");
  ip("-n", namespace, "address", "add", "10.0.2.15/24", "dev", "tap0");
}

/** mitmproxy before the origin, with the same header to set and the same root to verify by. */
async function startProxy(): Promise<void> {
  const options = [
    ["--mode", `reverse:https://${ADDRESS}:${ORIGIN_PORT}`],
    ["--listen-host", "127.0.0.1", "--listen-port", `${PROXY_PORT}`],
    ["--set", `confdir=${folder}/mitmproxy`],
    ["--set", `ssl_verify_upstream_trusted_ca=${root}`],
    ["--set", "flow_detail=0", "--set", "connection_strategy=lazy"],
    ["--modify-headers", `/~q/${INJECT.replace(": ", "/")}`],
  ];
  await start(HOST, [python ?? "", "-c", MITMDUMP, ...options.flat()], "listening");
}

/** Requests per second, and the middle of their times in microseconds. All must succeed. */
async function load(way: Way, connections: number): Promise<[number, number]> {
  const log = join(folder, "log");
  rmSync(log, { force: true });
  const url = `https://${ADDRESS}:${way.port}/`;
  const options = ["--h1", "-c", `${connections}`, "-D", `${SECONDS}`, `--log-file=${log}`, url];
  await run(namespaceOf(way), ["h2load", ...options]);
  const lines = readFileSync(log, "utf8").trim().split("\n");
  const times = lines.map((line) => {
    const [, status, time] = line.split("\t").map(Number);
    if (status !== 200) throw new Error(`${way.name} answers ${status}`);
    return time ?? Number.NaN;
  });
  return [times.length / SECONDS, percentile(times, 0.5)];
}

async function measure(connections: number): Promise<void> {
  const rates = new Map<string, number[]>(WAYS.map(({ name }) => [name, []]));
  const middles = new Map<string, number[]>(WAYS.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const way of WAYS) {
      const [rate, middle] = await load(way, connections);
      rates.get(way.name)?.push(rate);
      middles.get(way.name)?.push(middle);
    }
  }
  const [relay = 0, ours = 0, peer = 0] = WAYS.map(({ name }) => median(rates.get(name) ?? []));
  const [plain = 0, ...others] = WAYS.map(({ name }) => median(middles.get(name) ?? []));
  const [added = 0, peerAdded = 0] = others.map((middle) => middle - plain);
  const which = `${connections} connection${connections > 1 ? "s" : ""}`;
  const numbers = (values: number[]) => values.map((value) => value.toFixed(0)).join(" / ");
  report(`${which}, requests/s`, numbers([relay, ours, peer]));
  const ratios = `${(ours / relay).toFixed(2)} x, ${(ours / peer).toFixed(1)} x`;
  report("  ratio to the relay, to mitmproxy", ratios);
  report(`${which}, p50, us`, numbers([plain, ...others]));
  report("  added by ours, by mitmproxy, us", numbers([added, peerAdded]));
}

try {
  addNamespace(HOST);
  // The one name of the origin, for mitmproxy too.
  ip("-n", HOST, "address", "add", `${ADDRESS}/32`, "dev", "lo");
  await start(HOST, [origin, `0.0.0.0:${ORIGIN_PORT}`, "--name", ADDRESS, "--root", root], "ready");
  await startProxy();
  for (const way of WAYS) await connect(way);
  report("HTTPS: relay / our interception / mitmproxy, medians", "");
  for (const connections of CONNECTIONS) await measure(connections);
} finally {
  endAll();
  rmSync(folder, { recursive: true });
}
