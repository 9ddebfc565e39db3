/**
 * A bare guest for benchmarks of devices: two servers, ours and a peer, are in one guest, whose init
 * works on both in turn. No lane, so that nothing else is measured.
 */

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { artifacts, imageFile } from "../support/artifacts.js";
import { median, report } from "./statistics.js";

const DEADLINE_MS = 15 * 60_000;

/** One member of a newc archive. */
function member(name: string, mode: number, contents: Uint8Array): Buffer {
  const fields = [0, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  return Buffer.concat([padded(Buffer.from(`${head}${name}\0`)), padded(Buffer.from(contents))]);
}

/** An archive with busybox, the program that works, and the script that starts it. */
export function initramfs(init: string, work: string): Buffer {
  const folder = (name: string) => member(name, 0o40755, Buffer.alloc(0));
  return Buffer.concat([
    ...["bin", "dev", "root"].map(folder),
    member("bin/busybox", 0o100755, readFileSync("/bin/busybox")),
    member("work", 0o100755, readFileSync(work)),
    member("init", 0o100755, Buffer.from(init)),
    member("TRAILER!!!", 0, Buffer.alloc(0)),
  ]);
}

/** A server under measurement. */
export interface Server {
  /** Milliseconds of processor time that it took, with its children, known when it has ended. */
  cpuMs: Promise<number>;
  stop: (signal: NodeJS.Signals) => void;
}

/** Starts a server in a group of its own, under a shell that tells its times, and waits for its socket. */
export async function serve(program: string, args: string[], socket: string): Promise<Server> {
  const child = spawn("bash", ["-c", '"$@"; times', "bash", program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
    env: { ...process.env, LC_ALL: "C" },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString("latin1");
  });
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const stop = (signal: NodeJS.Signals) => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, signal);
  };
  for (let i = 0; !existsSync(socket); i++) {
    if (i > 600 || child.exitCode !== null) {
      stop("SIGKILL");
      throw new Error(`${program} does not serve`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { cpuMs: closed.then(() => childrenMs(output)), stop };
}

/** The second line of `times`: user and system time of the children. */
function childrenMs(output: string): number {
  const times = output.trim().split("\n").at(-1) ?? "";
  const parts = [...times.matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) throw new Error(`a server told no times: ${output}`);
  return parts.reduce((sum, part) => sum + (Number(part[1]) * 60 + Number(part[2])) * 1000, 0);
}

/**
 * Boots the guest with `initramfs` of a folder and two devices, whose servers are at `ours.sock` and
 * `peer.sock` there; what it printed.
 */
export async function run(folder: string, device: (name: string) => string): Promise<string> {
  const devices = ["ours", "peer"].flatMap((name) => [
    ...["-chardev", `socket,id=${name},path=${join(folder, `${name}.sock`)}`],
    ...["-device", device(name)],
  ]);
  const args = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-M", "microvm,acpi=off,rtc=on,memory-backend=memory", "-accel", "tcg"],
    ...["-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand", "-m", "512M", "-smp", "1"],
    ...["-object", "memory-backend-memfd,id=memory,size=512M,share=on"],
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...["-kernel", join(artifacts, "linux-x64-gnu/vmlinux"), "-initrd", join(folder, "initramfs")],
    ...["-append", "console=ttyS0 quiet panic=-1 reboot=t pci=off rdinit=/init"],
    ...["-drive", `file=${imageFile("debian:12").path},format=qcow2,if=none,id=root,read-only=on`],
    ...["-device", "virtio-blk-device,drive=root", ...devices],
  ];
  const child = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "inherit"] });
  const deadline = setTimeout(() => child.kill("SIGKILL"), DEADLINE_MS);
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString("latin1");
  });
  await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(deadline);
  if (!output.includes("---end---"))
    throw new Error(`the guest did not get to the end:\n${output}`);
  return output;
}

/** One comparison, in lower-is-better milliseconds. */
export function compare(what: string, peerName: string, ours: number, peer: number): void {
  const values = `${ours.toFixed(1)} / ${peer.toFixed(1)} ms`;
  report(`${what}: ours / ${peerName}`, values);
  report(`  speed beside ${peerName}`, `${(peer / ours).toFixed(2)} x`, "goal >= 1.0 x");
}

/** Compares what the guest has printed: lines of a name, one of the two paths, and microseconds. */
export function tell(
  what: string,
  peerName: string,
  output: string,
  [ours, peer]: readonly [string, string],
): void {
  const samples = new Map<string, Map<string, number[]>>();
  for (const [, name = "", path = "", micros] of output.matchAll(/^(\S.*) (\/\S+) (\d+)\r?$/gm)) {
    const paths = samples.get(name) ?? new Map<string, number[]>();
    samples.set(name, paths.set(path, [...(paths.get(path) ?? []), Number(micros) / 1000]));
  }
  if (samples.size === 0) throw new Error(`the guest measured nothing:\n${output}`);
  for (const [name, paths] of samples) {
    const label = `${what}, ${name.replace(/:$/, "")}`;
    compare(label, peerName, median(paths.get(ours) ?? []), median(paths.get(peer) ?? []));
  }
}
