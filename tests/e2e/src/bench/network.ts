/**
 * The benchmark of the network, without a VM: our stack, pasta and slirp4netns each connect a network
 * namespace, over a TAP device, with the loopback of another, in which the servers are. What is
 * measured is done by the three in turn. Nothing leaves the namespaces. Needs root.
 *
 * usage: network.js NETSTACK_TAP NETSTACK_LOAD
 */

import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { addNamespace, DEADLINE_MS, endAll, HOST, ip, run, start } from "./namespaces.js";
import { median, report } from "./statistics.js";

const ROUNDS = 3;
const SECONDS = 2;
const IDLE_FLOWS = 1000;
const MTUS = [65520, 1500];
const LOAD_PORT = "7000";

const [tap, load] = process.argv.slice(2);
if (tap === undefined || load === undefined) throw new Error("usage: network.js TAP LOAD");

/** One way to connect a guest. */
interface Kind {
  name: "ours" | "pasta" | "slirp4netns";
  /** Each has a server of its own: one that hangs keeps nobody else waiting. */
  iperfPort: string;
  /** By which the guest reaches the loopback of the host. */
  address: string;
  command(guest: string, mtu: number): string[];
}

interface Guest extends Kind {
  namespace: string;
  process: ChildProcess;
}

const KINDS: Kind[] = [
  {
    name: "ours",
    iperfPort: "5201",
    address: "10.0.2.2",
    command: (guest, mtu) => [
      tap,
      "--netns",
      guest,
      "--mtu",
      `${mtu}`,
      "--allow",
      "tcp",
      "--quiet",
    ],
  },
  {
    name: "pasta",
    iperfPort: "5202",
    address: "192.0.2.1",
    command: (guest, mtu) => {
      const ports = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
      const options = ["--foreground", "--quiet", "--runas", "0", "-4", "--config-net"];
      return ["pasta", ...options, "-m", `${mtu}`, ...ports, "--netns", `/run/netns/${guest}`];
    },
  },
  {
    name: "slirp4netns",
    iperfPort: "5203",
    address: "10.0.2.2",
    command: (guest, mtu) => {
      const options = ["--configure", `--mtu=${mtu}`, "--netns-type=path"];
      return ["slirp4netns", ...options, `/run/netns/${guest}`, "tap0"];
    },
  },
];

/** Waits until the guest has a route. */
async function connected(namespace: string): Promise<void> {
  const end = performance.now() + DEADLINE_MS;
  while (!(await run(namespace, ["ip", "route"])).includes("default")) {
    if (performance.now() > end) throw new Error(`${namespace} has no route`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function connect(kind: Kind, mtu: number): Promise<Guest> {
  const namespace = `${HOST}-${kind.name}-${mtu}`;
  addNamespace(namespace);
  const ours = kind.name === "ours";
  const command = kind.command(namespace, mtu);
  const process = await start(HOST, command, ours ? "ready" : undefined);
  if (ours) {
    ip("-n", namespace, "link", "set", "tap0", "mtu", `${mtu}`, "up");
    ip("-n", namespace, "address", "add", "10.0.2.15/24", "dev", "tap0");
    ip("-n", namespace, "route", "add", "default", "via", "10.0.2.1");
  }
  await connected(namespace);
  return { ...kind, namespace, process };
}

/** A process and all that it started. */
function family(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean),
  );
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

/** Seconds of processor time that the network has taken. */
function processorSeconds(guest: Guest): number {
  const ticks = family(guest.process.pid ?? 0).map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return Number(fields[11]) + Number(fields[12]);
  });
  // Linux counts in hundredths for programs.
  return ticks.reduce((sum, ticks) => sum + ticks, 0) / 100;
}

function residentMiB(guest: Guest): number {
  const kib = family(guest.process.pid ?? 0).map((pid) =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]),
  );
  return kib.reduce((sum, kib) => sum + kib, 0) / 1024;
}

interface Transfer {
  end: { sum_received: { bytes: number; bits_per_second: number } };
}

/** Gbit/s, and seconds of processor time for each GiB. */
async function throughput(guest: Guest, flows: number, into: boolean): Promise<[number, number]> {
  const options = ["-t", `${SECONDS}`, "-P", `${flows}`, "-J", ...(into ? ["-R"] : [])];
  const before = processorSeconds(guest);
  const command = ["iperf3", "-c", guest.address, "-p", guest.iperfPort, ...options];
  const { sum_received: sum } = (JSON.parse(await run(guest.namespace, command)) as Transfer).end;
  const processor = processorSeconds(guest) - before;
  return [sum.bits_per_second / 1e9, processor / (sum.bytes / 2 ** 30)];
}

async function work(guest: Guest, what: string): Promise<number[]> {
  const to = `${guest.address}:${LOAD_PORT}`;
  const output = await run(guest.namespace, [load ?? "", what, to, "--seconds", `${SECONDS}`]);
  return output.trim().split(" ").map(Number);
}

/** MiB that the network grows by when so many flows are open and silent. */
async function idleMiB(guest: Guest): Promise<number> {
  const before = residentMiB(guest);
  const to = `${guest.address}:${LOAD_PORT}`;
  const command = [load ?? "", "idle", to, "--flows", `${IDLE_FLOWS}`];
  const holder = await start(guest.namespace, command, "ready");
  const grown = residentMiB(guest) - before;
  const ended = new Promise((resolve) => holder.on("close", resolve));
  holder.stdin?.end();
  await ended;
  return grown;
}

type Values = Map<string, number[]>;

/** All of it, for each guest in turn. Values by "what" and name. */
async function measure(guests: Guest[]): Promise<Map<string, Values>> {
  const values = new Map<string, Values>();
  const note = (what: string, guest: Guest, value: number) => {
    const row = values.get(what) ?? new Map<string, number[]>();
    row.set(guest.name, [...(row.get(guest.name) ?? []), value]);
    values.set(what, row);
  };
  for (let round = 0; round < ROUNDS; round++) {
    for (const flows of [1, 16]) {
      for (const into of [false, true]) {
        const which = `${into ? "into" : "out of"} the guest, ${flows} flow${flows > 1 ? "s" : ""}`;
        for (const guest of guests) {
          const [speed, processor] = await throughput(guest, flows, into);
          note(`${which}, Gbit/s`, guest, speed);
          note(`${which}, CPU s/GiB`, guest, processor);
        }
      }
    }
    for (const guest of guests)
      note("connect and close, /s", guest, (await work(guest, "connect"))[0] ?? 0);
    for (const guest of guests) {
      const [p50 = 0, p99 = 0] = await work(guest, "ping");
      note("round trip p50, us", guest, p50);
      note("round trip p99, us", guest, p99);
    }
  }
  for (const guest of guests) {
    note(`${IDLE_FLOWS} idle flows, MiB`, guest, await idleMiB(guest));
  }
  return values;
}

/** Ratios are such that more is better for us. */
function print(mtu: number, all: Map<string, Values>): void {
  for (const [what, values] of all) {
    const of = (name: string) => median(values.get(name) ?? []);
    const [ours, pasta, slirp] = [of("ours"), of("pasta"), of("slirp4netns")];
    const places = ours < 10 ? 2 : 0;
    const numbers = [ours, pasta, slirp].map((value) => value.toFixed(places)).join(" / ");
    const more = /\/s$/.test(what);
    const ratio = (peer: number) => (more ? ours / peer : peer / ours).toFixed(2);
    const goal = what.endsWith("Gbit/s") ? "goals >= 1.0 x, >= 3 x" : more ? "goal >= 1.0 x" : "";
    report(`MTU ${mtu}, ${what}`, numbers);
    report("  ratio to pasta, to slirp4netns", `${ratio(pasta)} x, ${ratio(slirp)} x`, goal);
  }
}

try {
  addNamespace(HOST);
  // pasta takes the addresses of its guest from an interface with a default route.
  ip("-n", HOST, "tuntap", "add", "dev", "up0", "mode", "tap");
  ip("-n", HOST, "address", "add", "192.0.2.2/24", "dev", "up0");
  ip("-n", HOST, "link", "set", "up0", "up");
  ip("-n", HOST, "route", "add", "default", "via", "192.0.2.1");
  for (const { iperfPort } of KINDS) {
    const iperf = ["iperf3", "-s", "-B", "127.0.0.1", "-p", iperfPort, "--forceflush"];
    await start(HOST, iperf, "listening");
  }
  await start(HOST, [load, "serve", `127.0.0.1:${LOAD_PORT}`], "ready");
  report("ours / pasta / slirp4netns, medians", "");
  for (const mtu of MTUS) {
    const guests: Guest[] = [];
    for (const kind of KINDS) guests.push(await connect(kind, mtu));
    print(mtu, await measure(guests));
    for (const guest of guests) guest.process.kill();
  }
} finally {
  endAll();
}
