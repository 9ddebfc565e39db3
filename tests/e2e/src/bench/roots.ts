/** Writable roots: what they cost at boot, what installing a package costs on them, and memory. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Rootfs, rootfs, type Vm } from "lanebox";
import { BUSYBOX, DEBIAN, sandbox, shell } from "../support/lane.js";
import { helpers } from "../support/processes.js";
import { median, report } from "./statistics.js";

const BOOTS = 10;
const MIB = 1024 * 1024;
const DIRTY_MIB = 512;
/** Files of the package, of 8 KiB each. */
const FILES = 2000;

export async function benchRoots(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-"));
  try {
    await benchBoots(folder);
    await benchPackages(folder);
    await benchMemory(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const lane = (root: Rootfs, memoryMiB = 256) =>
  sandbox({ rootfs: root, resources: { cpus: 1, memoryMiB } });

async function benchBoots(folder: string): Promise<void> {
  const base = rootfs.builtIn(BUSYBOX);
  const roots = {
    "read-only": lane(base),
    ephemeral: lane(rootfs.ephemeral({ base })),
    persistent: lane(rootfs.persistent({ base, path: join(folder, "boots") })),
  };
  const times: Record<string, number[]> = {};
  for (let round = 0; round < BOOTS; round++) {
    for (const [kind, definition] of Object.entries(roots)) {
      const began = performance.now();
      const vm = await definition.boot();
      await vm.exec("true");
      times[kind] = [...(times[kind] ?? []), performance.now() - began];
      await vm.close();
    }
  }
  const plain = median(times["read-only"] ?? []);
  report("boot to first exec, read-only root", `${plain.toFixed(0)} ms`);
  for (const kind of ["ephemeral", "persistent"]) {
    const ours = median(times[kind] ?? []);
    report(`  ${kind} root`, `${ours.toFixed(0)} ms, ${(ours / plain).toFixed(2)} x`);
  }
}

/** Makes a package on /tmp, and takes the time of installing it. */
async function install(vm: Vm): Promise<number> {
  await shell(
    vm,
    `mkdir -p /tmp/p/DEBIAN /tmp/p/opt/many && cd /tmp/p/opt/many &&
     i=0; while [ $i -lt ${FILES} ]; do head -c 8192 /dev/zero > f$i; i=$((i+1)); done &&
     printf 'Package: many\\nVersion: 1\\nArchitecture: all\\nMaintainer: lane\\nDescription: files\\n' > /tmp/p/DEBIAN/control &&
     dpkg-deb -Znone --build /tmp/p /tmp/many.deb >/dev/null`,
  );
  const began = performance.now();
  await shell(vm, "dpkg -i /tmp/many.deb >/dev/null && sync");
  return performance.now() - began;
}

async function benchPackages(folder: string): Promise<void> {
  const base = rootfs.builtIn(DEBIAN);
  const maxDirtyBytes = 256 * MIB;
  const roots = {
    ephemeral: rootfs.ephemeral({ base, maxDirtyBytes }),
    persistent: rootfs.persistent({ base, path: join(folder, "packages") }),
  };
  for (const [kind, root] of Object.entries(roots)) {
    const vm = await lane(root, 1024).boot();
    const time = await install(vm);
    await vm.close();
    const what = `a package of ${FILES} files installed, ${kind} root`;
    report(what, `${(time / 1000).toFixed(2)} s`);
  }
}

/** Memory that a process has made itself: the guest's, which it maps, is not in it. */
function ownKiB(pid: number): number {
  const found = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  if (found === null) throw new Error(`no RssAnon for ${pid}`);
  return Number(found[1]);
}

async function benchMemory(folder: string): Promise<void> {
  const base = rootfs.builtIn(BUSYBOX);
  const root = rootfs.persistent({ base, path: join(folder, "dirty"), sizeMiB: 2 * DIRTY_MIB });
  const vm = await lane(root).boot();
  const [helper] = helpers();
  if (helper === undefined) throw new Error("no helper process");
  const before = ownKiB(helper.pid);
  await shell(vm, `dd if=/dev/urandom of=/dirty bs=1M count=${DIRTY_MIB} 2>/dev/null; sync`);
  const grown = (ownKiB(helper.pid) - before) / 1024;
  await vm.close();
  const each = (grown * 1024) / DIRTY_MIB;
  report("memory of sandbox-host per dirty GiB, persistent root", `${each.toFixed(1)} MiB`);
}
