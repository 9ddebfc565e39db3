/** Images that other tools have made, as writable roots of real guests. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type RootfsImage, rootfs, SandboxError } from "lanebox";
import { imageFile, sha256 } from "./support/artifacts.js";
import { BUSYBOX, boot, heard, shell } from "./support/lane.js";
import { helpers } from "./support/processes.js";

const folder = mkdtempSync(join(tmpdir(), "lanebox-others-"));
const tree = join(folder, "tree");
after(() => rmSync(folder, { recursive: true, force: true }));

const run = (program: string, ...args: string[]) =>
  execFileSync(program, args, { stdio: ["ignore", "pipe", "pipe"] });

/** The files of the busybox image, to make other filesystems of. */
before(() => {
  const raw = join(folder, "busybox.raw");
  run("qemu-img", "convert", "-O", "raw", imageFile(BUSYBOX).path, raw);
  mkdirSync(tree);
  run("/sbin/debugfs", "-R", `rdump / ${tree}`, raw);
});

function image(file: string, format: "qcow2" | "raw"): RootfsImage {
  const path = join(folder, file);
  const content = readFileSync(path);
  return rootfs.image({
    ...{ name: "other:1", path, format, architecture: "x86_64" },
    digest: sha256(content),
    sizeBytes: content.byteLength,
  });
}

/** A filesystem of the busybox's files with these features, in a raw file. */
function makeRaw(file: string, ...options: string[]): void {
  run("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, ...options, join(folder, file), "64M");
}

test("clusters of 32 KiB, no journal, 64bit and metadata_csum: written, crashed, checked, grown", async () => {
  makeRaw("plain.raw", "-b", "4096", "-O", "^has_journal,64bit,metadata_csum");
  const options = ["-O", "qcow2", "-o", "cluster_size=32k"];
  run("qemu-img", "convert", ...options, join(folder, "plain.raw"), join(folder, "plain.qcow2"));
  const path = join(folder, "lane.disk");
  const base = image("plain.qcow2", "qcow2");
  const source = rootfs.persistent({ base, path, sizeMiB: 128 });
  let sums: string;
  {
    await using vm = await boot({}, { rootfs: source });
    sums = await shell(
      vm,
      "head -c 3000000 /dev/urandom > /kept; mkdir /d; sync; sha256sum /kept; sync",
    );
    await shell(vm, "(while :; do echo x >> /d/noise; done) >/dev/null 2>&1 &");
    const [helper] = helpers();
    assert(helper);
    process.kill(helper.pid, "SIGKILL");
    await vm.closed;
  }
  const console = heard();
  {
    await using vm = await boot(console, { rootfs: rootfs.persistent({ base, path }) });
    assert.equal(await shell(vm, "sha256sum /kept"), sums);
    assert(Number(await shell(vm, "stat -f -c %b /")) > 30_000);
  }
  assert.match(console.text(), /e2fsck: .*\d+\/\d+ files/, "it was checked");
  const dest = join(folder, "flat.qcow2");
  await rootfs.flatten({ format: "qcow2", source, dest });
  const flat = join(folder, "flat.raw");
  run("qemu-img", "convert", "-O", "raw", dest, flat);
  run("/sbin/e2fsck", "-fn", flat);
});

test("a raw image with blocks of 1 KiB: written and grown in memory", async () => {
  makeRaw("small.raw", "-b", "1024", "-O", "64bit,metadata_csum");
  const root = rootfs.ephemeral({ base: image("small.raw", "raw"), sizeMiB: 200 });
  await using vm = await boot({}, { rootfs: root });
  await shell(vm, "head -c 3000000 /dev/urandom > /kept; sync; sha256sum /kept");
  assert(Number(await shell(vm, "stat -f -c %b /")) > 150_000);
  const full = await vm.exec("sh", ["-c", "dd if=/dev/zero of=/big bs=1M count=100; sync"]);
  assert.match(full.stderr, /No space left on device/);
  assert.equal((await vm.exec("dmesg")).stdout.match(/I\/O error|EXT4-fs error/g), null);
});

test("a damaged root is not mounted, and is told of", async () => {
  makeRaw("damaged.raw", "-b", "4096");
  // A directory whose block is claimed by another, and a state that says that nobody unmounted it.
  const debugfs = (line: string) =>
    run("/sbin/debugfs", "-w", "-R", line, join(folder, "damaged.raw"));
  debugfs("set_inode_field /bin block[0] 0");
  debugfs("set_inode_field /bin flags 0");
  debugfs("set_super_value state 2");
  const root = rootfs.ephemeral({ base: image("damaged.raw", "raw") });
  await assert.rejects(boot({}, { rootfs: root }), (error) => {
    assert(error instanceof SandboxError && error.code === "boot-failed", String(error));
    assert.equal(error.step, "check-root");
    assert.match(error.message, /damaged.*e2fsck/);
    return true;
  });
});

test("an image with a backing file is refused with what to do", async () => {
  run("qemu-img", "create", "-q", "-f", "raw", join(folder, "below.raw"), "64M");
  const backing = ["-b", join(folder, "below.raw"), "-F", "raw"];
  run("qemu-img", "create", "-q", "-f", "qcow2", ...backing, join(folder, "over.qcow2"));
  await assert.rejects(boot({}, { rootfs: image("over.qcow2", "qcow2") }), (error) => {
    assert(error instanceof SandboxError && error.code === "artifact-invalid", String(error));
    assert.match(error.message, /backing file; flatten it/);
    return true;
  });
});
