/**
 * The benchmark of disks: our virtio-blk device over a file store beside qemu-storage-daemon over a
 * QCOW2 overlay, both over the same base and in one guest, which works on them in turn
 * (block-work.rs) through vhost-user-blk. And flattening beside qemu-img.
 */

import { execFileSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootfs } from "lanebox";
import { imageFile } from "../support/artifacts.js";
import { compare, initramfs, run, type Server, serve, tell } from "./guest.js";
import { median, report } from "./statistics.js";

const ROUNDS = 5;
const FLATTENINGS = 3;
/** From Debian's package qemu-system-common. */
const PEER = "/usr/bin/qemu-storage-daemon";
const BASE_BYTES = 128 << 20;

const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox echo ---begin---
/work ${ROUNDS} /dev/vdb /dev/vdc
/bin/busybox echo ---end---
/bin/busybox reboot -f
`;

/** `server` is the built example serve_block, `work` the built block-work.rs. */
export async function benchDisks(server: string, work: string): Promise<void> {
  if (existsSync(PEER)) await benchDevices(server, work);
  else report("disk beside qemu-storage-daemon", `skipped: there is no ${PEER}`);
  await benchFlatten();
}

async function benchDevices(server: string, work: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  const path = (name: string) => join(folder, name);
  const servers: Server[] = [];
  try {
    writeFileSync(path("base.raw"), randomFillSync(Buffer.alloc(BASE_BYTES)));
    const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { stdio: "pipe" });
    qemuImg("convert", "-O", "qcow2", path("base.raw"), path("base.qcow2"));
    const over = ["-b", path("base.qcow2"), "-F", "qcow2", path("over.qcow2")];
    qemuImg("create", "-q", "-f", "qcow2", ...over);
    writeFileSync(path("initramfs"), initramfs(INIT, work));
    const oursArgs = [path("base.qcow2"), "qcow2", path("ours.sock"), "1", path("store")];
    const ours = await serve(server, oursArgs, path("ours.sock"));
    servers.push(ours);
    const address = `addr.type=unix,addr.path=${path("peer.sock")}`;
    const peerArgs = [
      ...["--blockdev", `file,node-name=file,filename=${path("over.qcow2")},discard=unmap`],
      ...["--blockdev", "qcow2,node-name=disk,file=file,discard=unmap"],
      ...["--export", `vhost-user-blk,id=disk,node-name=disk,writable=on,num-queues=1,${address}`],
    ];
    const peer = await serve(PEER, peerArgs, path("peer.sock"));
    servers.push(peer);
    // Without the last, the guest takes the peer for a disk without a cache and never flushes it.
    const device = (name: string) =>
      `vhost-user-blk,chardev=${name},num-queues=1,queue-size=256,config-wce=off`;
    const output = await run(folder, device);
    tell("disk", "qemu-storage-daemon", output, ["/dev/vdb", "/dev/vdc"]);
    for (const { stop } of servers) stop("SIGTERM");
    const what = "disk, processor time of the server";
    compare(what, "qemu-storage-daemon", await ours.cpuMs, await peer.cpuMs);
  } finally {
    for (const { stop } of servers) stop("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}

async function benchFlatten(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  const dest = join(folder, "image");
  const source = rootfs.builtIn("debian:12");
  const { path } = imageFile("debian:12");
  try {
    for (const compress of [false, true]) {
      const ours: number[] = [];
      const peer: number[] = [];
      const timed = async (samples: number[], work: () => unknown) => {
        const begun = performance.now();
        await work();
        samples.push(performance.now() - begun);
        rmSync(dest);
      };
      const qemuArgs = ["convert", ...(compress ? ["-c"] : []), "-O", "qcow2", path, dest];
      for (let i = 0; i < FLATTENINGS; i++) {
        await timed(ours, () => rootfs.flatten({ format: "qcow2", source, dest, compress }));
        await timed(peer, () => execFileSync("qemu-img", qemuArgs));
      }
      const what = `flatten debian:12${compress ? ", compressed" : ""}`;
      compare(what, "qemu-img convert", median(ours), median(peer));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
