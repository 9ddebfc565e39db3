/**
 * The benchmark of host directories: our virtio-fs device beside Debian's virtiofsd, both in one
 * guest, which works on their mounts in turn (file-work.rs).
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare, initramfs, run, type Server, serve, tell } from "./guest.js";
import { report } from "./statistics.js";

const ROUNDS = 5;
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

/** `server` is the built example serve_fs, `work` the built file-work.rs. */
export async function benchFilesystems(server: string, work: string): Promise<void> {
  if (!existsSync(PEER)) {
    report("host directory beside virtiofsd", `skipped: there is no ${PEER}`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  const servers: Server[] = [];
  try {
    for (const name of ["ours", "peer"]) fill(join(folder, name));
    writeFileSync(join(folder, "initramfs"), initramfs(INIT, work));
    const path = (name: string) => join(folder, name);
    const oursArgs = [path("ours"), path("ours.sock")];
    const peerSource = `source=${path("peer")},cache=auto,log_level=err`;
    const peerArgs = [`--socket-path=${path("peer.sock")}`, "-o", peerSource];
    const ours = await serve(server, oursArgs, path("ours.sock"));
    servers.push(ours);
    const peer = await serve(PEER, peerArgs, path("peer.sock"));
    servers.push(peer);
    const device = (name: string) =>
      `vhost-user-fs-device,chardev=${name},tag=${name},queue-size=1024`;
    tell("host directory", "virtiofsd", await run(folder, device), ["/mnt", "/srv"]);
    // Both end with the guest. On a busy machine this says more than times do.
    compare(
      "host directory, processor time of the server",
      "virtiofsd",
      await ours.cpuMs,
      await peer.cpuMs,
    );
  } finally {
    for (const { stop } of servers) stop("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}
