/**
 * Processes and guest files: what starting one costs beside a shell loop in the guest, and streams beside
 * `dd` on a port of the same kind with nothing in between.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Vm } from "lanebox";
import { artifacts, imageFile } from "../support/artifacts.js";
import { BUSYBOX, sandbox } from "../support/lane.js";
import { engines } from "../support/processes.js";
import { BareShell, bareMachineLike } from "./bare-qemu.js";
import { median, percentile, report } from "./statistics.js";

const MIB = 1024 * 1024;
const STREAM_MIB = 64;
const ROUNDS = 3;
const SPAWNS = 100;
const FILES = 200;
const ENTRIES = 10_000;
const DEADLINE_MS = 120_000;

export async function benchProcesses(): Promise<void> {
  const vm = await sandbox().boot();
  const [engine] = engines();
  if (engine === undefined) throw new Error("no engine process");
  const kernel = join(artifacts, "linux-x64-gnu/vmlinux");
  const machine = bareMachineLike(engine.pid, kernel, imageFile(BUSYBOX).path);
  await benchSpawn(vm);
  const ours = { out: [] as number[], in: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    ours.out.push(await guestToHost(vm));
    ours.in.push(await hostToGuest(vm));
  }
  await benchFiles(vm);
  await vm.close();
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  const path = join(folder, "port");
  const port = [
    "-device",
    "virtio-serial-device",
    "-device",
    "virtserialport,chardev=raw,name=raw",
  ];
  const chardev = ["-chardev", `socket,id=raw,path=${path},server=on,wait=off`];
  const shell = await BareShell.start({
    ...machine,
    args: [...machine.args, ...chardev, ...port],
  });
  const bare = { out: [] as number[], in: [] as number[] };
  try {
    const found = await shell.ask("port=$(ls /dev/vport*p1); echo found-$port");
    if (!/^found-\/dev\/vport/m.test(found)) throw new Error(`no port: ${found}`);
    const socket = createConnection(path);
    for (let round = 0; round < ROUNDS; round++) {
      bare.out.push(await bareOut(shell, socket));
      bare.in.push(await bareIn(shell, socket));
    }
    socket.destroy();
  } finally {
    await shell.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  tell("stdout of a process, guest to host", median(ours.out), median(bare.out));
  tell("stdin of a process, host to guest", median(ours.in), median(bare.in));
}

function tell(what: string, ours: number, bare: number): void {
  report(`${what}, ours`, `${ours.toFixed(1)} MiB/s`);
  report("  dd on a bare virtio-console port", `${bare.toFixed(1)} MiB/s`);
  report("  ratio", `${(ours / bare).toFixed(2)} x`);
}

const rate = (began: number) => STREAM_MIB / ((performance.now() - began) / 1000);

async function guestToHost(vm: Vm): Promise<number> {
  const began = performance.now();
  const { stdout, exit } = vm.spawn("dd", ["if=/dev/zero", "bs=64k", `count=${STREAM_MIB * 16}`]);
  let bytes = 0;
  for await (const chunk of stdout) bytes += chunk.byteLength;
  await exit;
  if (bytes !== STREAM_MIB * MIB) throw new Error(`${bytes} bytes came`);
  return rate(began);
}

async function hostToGuest(vm: Vm): Promise<number> {
  const began = performance.now();
  const { stdin, stdout, exit } = vm.spawn("wc", ["-c"]);
  const writer = stdin.getWriter();
  const chunk = new Uint8Array(64 * 1024);
  for (let i = 0; i < STREAM_MIB * 16; i++) await writer.write(chunk);
  await writer.close();
  const text = await new Response(stdout as ReadableStream).text();
  await exit;
  if (Number(text) !== STREAM_MIB * MIB) throw new Error(`${text} bytes arrived`);
  return rate(began);
}

async function bareOut(shell: BareShell, socket: Socket): Promise<number> {
  const began = performance.now();
  let bytes = 0;
  const all = new Promise<void>((resolve) => {
    const hear = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes < STREAM_MIB * MIB) return;
      socket.off("data", hear);
      resolve();
    };
    socket.on("data", hear);
  });
  const done = shell.ask(`dd if=/dev/zero of=$port bs=64k count=${STREAM_MIB * 16}`);
  const late = sleep(DEADLINE_MS, undefined, { ref: false }).then(() => {
    throw new Error(`only ${bytes} bytes came out of the bare port`);
  });
  await Promise.race([all, late]);
  const result = rate(began);
  await done;
  return result;
}

async function bareIn(shell: BareShell, socket: Socket): Promise<number> {
  const began = performance.now();
  const done = shell.ask(`head -c ${STREAM_MIB * MIB} $port | wc -c`);
  const chunk = Buffer.alloc(64 * 1024);
  for (let i = 0; i < STREAM_MIB * 16; i++) {
    if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
  }
  await done;
  return rate(began);
}

async function benchSpawn(vm: Vm): Promise<void> {
  const first: number[] = [];
  for (let i = 0; i < SPAWNS; i++) {
    const began = performance.now();
    const { stdout, exit } = vm.spawn("/bin/busybox", ["echo", "x"]);
    for await (const _ of stdout) {
      first.push(performance.now() - began);
      break;
    }
    await exit;
  }
  const loop = `s=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt 200 ]; do /bin/busybox echo x | read y; i=$((i+1)); done; e=$(cut -d' ' -f1 /proc/uptime); echo $s $e`;
  const { stdout } = await vm.exec("sh", ["-c", loop]);
  const [begin = 0, end = 0] = stdout.split(" ").map(Number);
  const inGuest = ((end - begin) * 1000) / 200;
  report("spawn to first byte, p50", `${percentile(first, 0.5).toFixed(2)} ms`);
  report("  the same program in a pipe of a guest's shell", `${inGuest.toFixed(2)} ms`);
  report("  ratio", `${(percentile(first, 0.5) / inGuest).toFixed(2)} x`);
}

async function benchFiles(vm: Vm): Promise<void> {
  await vm.exec("sh", ["-c", `mkdir /tmp/many && cd /tmp/many && seq ${ENTRIES} | xargs touch`]);
  let began = performance.now();
  let entries = 0;
  for await (const _ of vm.fs.readDir("/tmp/many")) entries += 1;
  if (entries !== ENTRIES) throw new Error(`${entries} entries`);
  report("readDir", `${(entries / ((performance.now() - began) / 1000)).toFixed(0)} entries/s`);
  const content = Buffer.alloc(1024, "x");
  began = performance.now();
  for (let i = 0; i < FILES; i++) await vm.fs.writeFile(`/tmp/small-${i}`, content);
  for (let i = 0; i < FILES; i++) await vm.fs.readFile(`/tmp/small-${i}`);
  const each = (performance.now() - began) / (2 * FILES);
  report("a file of 1 KiB written or read", `${each.toFixed(2)} ms`);
}
