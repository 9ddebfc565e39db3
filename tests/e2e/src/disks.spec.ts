/** Writable roots in memory and in a file, in real guests. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { rootfs, SandboxError, type Vm } from "lanebox";
import { imageFile } from "./support/artifacts.js";
import { BUSYBOX, boot, heard, shell } from "./support/lane.js";
import { helpers, memoryKiB } from "./support/processes.js";

const MIB = 1024 * 1024;
const base = rootfs.builtIn(BUSYBOX);

/** Expects a boot to be refused with a code; returns its error. */
async function refusal(booting: Promise<Vm>, code: string): Promise<SandboxError> {
  let vm: Vm;
  try {
    vm = await booting;
  } catch (error) {
    assert(error instanceof SandboxError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  await vm.close();
  throw new Error(`the boot was not refused with ${code}`);
}

/** The one helper of this program. */
function helper(): number {
  const [found, ...others] = helpers();
  assert(found !== undefined && others.length === 0);
  return found.pid;
}

describe("a root in memory", () => {
  let vm: Vm;
  before(async () => {
    const root = rootfs.ephemeral({ base, maxDirtyBytes: 32 * MIB, sizeMiB: 512 });
    vm = await boot({}, { rootfs: root });
  });
  after(() => vm.close());

  test("is written, and grown to its size", async () => {
    await shell(vm, "echo changed > /etc/motd; mkdir -p /opt/a/b; mv /etc/motd /opt/a/b/c");
    assert.equal(await shell(vm, "cat /opt/a/b/c"), "changed");
    const blocks = await shell(vm, "stat -f -c %b /");
    assert(Number(blocks) > 120_000, blocks);
  });

  test("metrics tell what the guest has used", async () => {
    const before = await vm.metrics();
    await shell(
      vm,
      "dd if=/dev/zero of=/written bs=1M count=4; sync; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; rm /written",
    );
    const after = await vm.metrics();
    assert(
      after.disk.writtenBytes - before.disk.writtenBytes >= 4 * MIB,
      String(after.disk.writtenBytes),
    );
    assert(before.disk.readBytes > 0 && after.uptimeMs > before.uptimeMs);
    assert(after.host.cpuTimeMs > before.host.cpuTimeMs);
    assert(after.host.memoryBytes > 32 * MIB, String(after.host.memoryBytes));
    assert(before.guest !== undefined && after.guest !== undefined);
    assert(after.guest.cpuTimeMs > before.guest.cpuTimeMs);
    assert(after.guest.memoryBytes > 0 && after.guest.availableBytes > after.guest.memoryBytes);
    assert.equal(after.network, undefined);
  });

  test("is full at its budget with ENOSPC, and works on", async () => {
    const memory = () => memoryKiB(helper()) * 1024;
    for (const round of [1, 2]) {
      const full = await vm.exec("sh", ["-c", "dd if=/dev/urandom of=/big bs=1M count=100; sync"]);
      assert.match(full.stderr, /No space left on device/, `round ${round}: ${full.stderr}`);
      const written = Number(await shell(vm, "stat -c %s /big"));
      assert(written > 20 * MIB && written < 32 * MIB, `${written} bytes were written`);
      const before = memory();
      for (let again = 0; again < 3; again += 1) {
        await vm.exec("sh", ["-c", "dd if=/dev/urandom of=/big2 bs=1M count=20; sync"]);
      }
      assert(memory() - before < 8 * MIB, `the helper grew by ${memory() - before} bytes`);
      await shell(vm, "rm -f /big /big2; sync; echo fine > /after; sync; cat /after");
    }
    assert.equal(await shell(vm, "grep -c ' / ext4 rw' /proc/mounts"), "1");
    assert.equal((await vm.exec("dmesg")).stdout.match(/I\/O error|EXT4-fs error/g), null);
  });
});

describe("a root in a file", () => {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-disks-"));
  const path = join(folder, "lane.disk");
  after(() => rmSync(folder, { recursive: true, force: true }));
  const persistent = (overrides: Partial<Parameters<typeof rootfs.persistent>[0]> = {}) => ({
    rootfs: rootfs.persistent({ base, path, ...overrides }),
  });

  test("keeps what was synced when the helper is killed, and recovers at the next boot", async () => {
    await using vm = await boot({}, persistent({ sizeMiB: 512 }));
    // Somebody writes all the time, and some of what is written is synced.
    await shell(vm, "(while :; do head -c 3000000 /dev/urandom > /noise; done) >/dev/null 2>&1 &");
    const sums = await shell(
      vm,
      "for i in $(seq 12); do head -c $((i * 33333)) /dev/urandom > /f$i; sync /f$i; sync; done; sha256sum /f*",
    );
    process.kill(helper(), "SIGKILL");
    assert.equal((await vm.closed).reason, "helper-exited");
    const console = heard();
    await using again = await boot(console, persistent());
    assert.equal(await shell(again, "sha256sum /f*"), sums);
    assert.match(console.text(), /e2fsck: .*recovering journal/);
    assert(Number(await shell(again, "stat -f -c %b /")) > 120_000, "it has its size again");
    await shell(again, "echo kept > /kept");
  });

  test("is unmounted by close, so that nothing is to be recovered", async () => {
    const console = heard();
    await using vm = await boot(console, persistent());
    assert.equal(await shell(vm, "cat /kept"), "kept");
    assert.doesNotMatch(await shell(vm, "dmesg"), /EXT4-fs.*recovery/);
    assert.doesNotMatch(console.text(), /e2fsck/);
    const error = await refusal(boot({}, persistent()), "disk-in-use");
    assert(error.message.includes(path), error.message);
    assert(error.remedy);
  });

  test("is refused when it is not what it should be, and nothing is changed", async () => {
    const file = imageFile(BUSYBOX);
    const other = rootfs.image({
      path: file.path,
      sizeBytes: file.sizeBytes,
      name: "other:1",
      format: "qcow2",
      architecture: "x86_64",
      digest: `sha256:${"0".repeat(64)}`,
    });
    const wrong = await refusal(boot({}, persistent({ base: other })), "disk-invalid");
    assert(wrong.message.includes(path) && wrong.message.includes(base.digest), wrong.message);
    const foreign = join(folder, "foreign");
    writeFileSync(foreign, "a file of somebody else's\n");
    await refusal(boot({}, persistent({ path: foreign })), "disk-invalid");
    const smaller = await refusal(boot({}, persistent({ sizeMiB: 400 })), "invalid-argument");
    assert.match(smaller.message, /512 MiB.*400 MiB.*cannot shrink/);
    truncateSync(path, 20_000);
    const cut = await refusal(boot({}, persistent()), "disk-invalid");
    assert.match(cut.message, /truncated/);
    const nowhere = await refusal(boot({}, persistent({ path: "/no/such/lane" })), "boot-failed");
    assert.deepEqual([nowhere.errno, nowhere.step], ["ENOENT", "open-disk"]);
    const readOnly = await refusal(boot({}, persistent({ path: "/sys/lane" })), "boot-failed");
    assert.equal(readOnly.step, "open-disk");
    await refusal(
      boot({}, persistent({ path: join(folder, "x"), sizeMiB: 1 })),
      "invalid-argument",
    );
  });
});
