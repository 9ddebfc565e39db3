/** A persistent root whose host disk is full, in a real guest. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { rootfs } from "lanebox";
import { BUSYBOX, boot, shell } from "./support/lane.js";

const folder = mkdtempSync(join(tmpdir(), "lanebox-full-"));
const isRoot = process.getuid?.() === 0;
const options = isRoot ? {} : { skip: "only root can make a file system of a fixed size" };
const root = rootfs.persistent({
  base: rootfs.builtIn(BUSYBOX),
  path: join(folder, "lane.disk"),
  sizeMiB: 512,
});
before(() => {
  if (isRoot) execFileSync("mount", ["-t", "tmpfs", "-o", "size=48m", "lanebox", folder]);
});
after(() => {
  if (isRoot) execFileSync("umount", [folder]);
  rmSync(folder, { recursive: true, force: true });
});

test(
  "a full host disk is an error in the guest and an event, and loses nothing",
  options,
  async () => {
    let sums: string;
    {
      await using vm = await boot({}, { rootfs: root });
      const events = (async () => {
        for await (const event of vm.events()) if (event.type === "store-error") return event;
        return undefined;
      })();
      sums = await shell(vm, "head -c 3000000 /dev/urandom > /kept; sync; sha256sum /kept");
      // Somebody else takes what is left but a few MiB.
      const { bavail, bsize } = statfsSync(folder);
      writeFileSync(join(folder, "others"), Buffer.alloc(Number(bavail * bsize) - 6 * 1024 * 1024));
      const full = await vm.exec("dd", [
        "if=/dev/urandom",
        "of=/big",
        "bs=1M",
        "count=64",
        "conv=fsync",
      ]);
      assert.notEqual(full.exitCode, 0);
      const event = await events;
      assert(event !== undefined && !event.recovered, "an event tells of it");
      assert.match(event.message, /full|space/i);
      assert.equal(await shell(vm, "sha256sum /kept"), sums, "what is there can be read");
    }
    rmSync(join(folder, "others"));
    await using vm = await boot({}, { rootfs: root });
    assert.equal(await shell(vm, "sha256sum /kept"), sums);
    await shell(vm, "rm -f /big; head -c 8000000 /dev/urandom > /more; sync /more");
    assert.equal(await shell(vm, "stat -c %s /more"), "8000000");
  },
);
