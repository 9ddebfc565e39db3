/**
 * The benchmark of host directories: our virtio-fs device beside Debian's virtiofsd, both in one
 * guest, which works on their mounts in turn (file-work.rs).
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { artifacts, imageFile } from "../support/artifacts.js";
import { median, report } from "./statistics.js";

const ROUNDS = 5;
const DEADLINE_MS = 15 * 60_000;
/** From Debian's package qemu-system-common, version 7.2. */
const PEER = "/usr/lib/qemu/virtiofsd";
const TREE = { folders: 100, filesEach: 100 };
const DATA_BYTES = 32 << 20;

const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t ext4 -o ro /dev/vda /root
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t tmpfs tmp /root/tmp
/bin/busybox mount -t virtiofs ours /root/mnt
/bin/busybox mount -t virtiofs peer /root/srv
/bin/busybox cp /work /root/tmp/work
/bin/busybox echo ---begin---
/bin/busybox chroot /root /tmp/work ${ROUNDS} /mnt /srv
/bin/busybox echo ---end---
/bin/busybox reboot -f
`;

/** What is served: a tree with 10,000 files that git knows, and a file of data. */
function fill(folder: string): void {
  const tree = join(folder, "tree");
  for (let i = 0; i < TREE.folders; i++) {
    mkdirSync(join(tree, `d${i}`), { recursive: true });
    for (let j = 0; j < TREE.filesEach; j++)
      writeFileSync(join(tree, `d${i}/f${j}`), `${i} ${j}\n`);
  }
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=bench", "-c", "user.email=bench@localhost", ...args], {
      cwd: tree,
      stdio: ["ignore", "ignore", "inherit"],
    });
  git("init", "-q");
  git("add", ".");
  git("commit", "-q", "-m", "tree");
  writeFileSync(join(folder, "data"), Buffer.alloc(DATA_BYTES, "data"));
}

/** One member of a newc archive. */
function member(name: string, mode: number, contents: Uint8Array): Buffer {
  const fields = [0, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  return Buffer.concat([padded(Buffer.from(`${head}${name}\0`)), padded(Buffer.from(contents))]);
}

function initramfs(work: string): Buffer {
  const folder = (name: string) => member(name, 0o40755, Buffer.alloc(0));
  return Buffer.concat([
    ...["bin", "dev", "root"].map(folder),
    member("bin/busybox", 0o100755, readFileSync("/bin/busybox")),
    member("work", 0o100755, readFileSync(work)),
    member("init", 0o100755, Buffer.from(INIT)),
    member("TRAILER!!!", 0, Buffer.alloc(0)),
  ]);
}

interface FileServer {
  /** Milliseconds of processor time that it took, with its children, known when it has ended. */
  cpuMs: Promise<number>;
  stop: () => void;
}

/** Starts a server in a group of its own, under a shell that tells its times, and waits for its socket. */
async function serve(program: string, args: string[], socket: string): Promise<FileServer> {
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
  const stop = () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL");
  };
  for (let i = 0; !existsSync(socket); i++) {
    if (i > 600 || child.exitCode !== null) {
      stop();
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

/** Boots the guest; what it printed. */
async function run(folder: string): Promise<string> {
  const device = (tag: string) => [
    ...["-chardev", `socket,id=${tag},path=${join(folder, `${tag}.sock`)}`],
    ...["-device", `vhost-user-fs-device,chardev=${tag},tag=${tag},queue-size=1024`],
  ];
  const args = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-M", "microvm,acpi=off,rtc=on,memory-backend=memory", "-accel", "tcg"],
    ...["-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand", "-m", "512M", "-smp", "1"],
    ...["-object", "memory-backend-memfd,id=memory,size=512M,share=on"],
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...["-kernel", join(artifacts, "linux-x64-gnu/vmlinux"), "-initrd", join(folder, "initramfs")],
    ...["-append", "console=ttyS0 quiet panic=-1 reboot=t pci=off rdinit=/init"],
    ...["-drive", `file=${imageFile("debian:12").path},format=qcow2,if=none,id=root,read-only=on`],
    ...["-device", "virtio-blk-device,drive=root", ...device("ours"), ...device("peer")],
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

/** `server` is the built example serve_fs, `work` the built file-work.rs. */
export async function benchFilesystems(server: string, work: string): Promise<void> {
  if (!existsSync(PEER)) {
    report("host directory beside virtiofsd", `skipped: there is no ${PEER}`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  const servers: FileServer[] = [];
  try {
    for (const name of ["ours", "peer"]) fill(join(folder, name));
    writeFileSync(join(folder, "initramfs"), initramfs(work));
    const path = (name: string) => join(folder, name);
    const oursArgs = [path("ours"), path("ours.sock")];
    const peerSource = `source=${path("peer")},cache=auto,log_level=err`;
    const peerArgs = [`--socket-path=${path("peer.sock")}`, "-o", peerSource];
    const ours = await serve(server, oursArgs, path("ours.sock"));
    servers.push(ours);
    const peer = await serve(PEER, peerArgs, path("peer.sock"));
    servers.push(peer);
    tell(await run(folder));
    // Both end with the guest. On a busy machine this says more than times do.
    compare("processor time of the server", await ours.cpuMs, await peer.cpuMs);
  } finally {
    for (const { stop } of servers) stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function compare(what: string, ours: number, peer: number): void {
  const values = `${ours.toFixed(1)} / ${peer.toFixed(1)} ms`;
  report(`host directory, ${what}: ours / virtiofsd`, values);
  report("  speed beside virtiofsd", `${(peer / ours).toFixed(2)} x`, "goal >= 1.0 x");
}

function tell(output: string): void {
  const samples = new Map<string, Map<string, number[]>>();
  for (const [, name = "", mount = "", micros] of output.matchAll(/^(\S+) (\/\S+) (\d+)\r?$/gm)) {
    const mounts = samples.get(name) ?? new Map<string, number[]>();
    samples.set(name, mounts.set(mount, [...(mounts.get(mount) ?? []), Number(micros) / 1000]));
  }
  if (samples.size === 0) throw new Error(`the guest measured nothing:\n${output}`);
  for (const [name, mounts] of samples) {
    compare(name, median(mounts.get("/mnt") ?? []), median(mounts.get("/srv") ?? []));
  }
}
