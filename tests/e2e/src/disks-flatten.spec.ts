/** Flattened roots, checked by QEMU's and ext4's own tools, and booted. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type FlattenProgress, rootfs, SandboxError } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { BUSYBOX, boot, shell } from "./support/lane.js";

const cli = join(checkout, "clients/typescript/dist/cli/main.js");
const base = rootfs.builtIn(BUSYBOX);
const folder = mkdtempSync(join(tmpdir(), "lanebox-flatten-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const source = rootfs.persistent({ base, path: join(folder, "lane.disk"), sizeMiB: 512 });
const dest = join(folder, "flat.qcow2");

test("a closed root becomes an image that is sound, clean, and boots", async () => {
  {
    await using vm = await boot({}, { rootfs: source });
    await shell(vm, "head -c 3000000 /dev/urandom > /kept; sha256sum /kept > /sum");
  }
  const progress: FlattenProgress[] = [];
  await rootfs.flatten({ format: "qcow2", source, dest, onProgress: (now) => progress.push(now) });
  const size = 512 * 1024 * 1024;
  assert.deepEqual(progress.at(-1), { positionBytes: size, sizeBytes: size });
  execFileSync("qemu-img", ["check", "-q", dest]);
  const raw = join(folder, "flat.raw");
  execFileSync("qemu-img", ["convert", "-O", "raw", dest, raw]);
  execFileSync("/sbin/e2fsck", ["-fn", raw], { stdio: "pipe" });
  const hash = createHash("sha256");
  for await (const chunk of rootfs.bytes(source, { chunkSize: 1_000_000 })) hash.update(chunk);
  assert.equal(hash.digest("hex"), createHash("sha256").update(readFileSync(raw)).digest("hex"));
  const content = readFileSync(dest);
  const digest = `sha256:${createHash("sha256").update(content).digest("hex")}`;
  const image = rootfs.image({
    name: "flat:1",
    path: dest,
    format: "qcow2",
    architecture: "x86_64",
    digest,
    sizeBytes: content.byteLength,
  });
  await using vm = await boot({}, { rootfs: image });
  await shell(vm, "sha256sum -c /sum");
});

test("the command line tells of a root, and writes the same image", async () => {
  const lanebox = (...args: string[]) =>
    execFileSync(process.execPath, [cli, "image", ...args], { encoding: "utf8" });
  const persistent = ["--persistent", join(folder, "lane.disk"), BUSYBOX];
  const info = JSON.parse(lanebox("info", "--json", ...persistent));
  assert.deepEqual([info.name, info.diskBytes], [BUSYBOX, 512 * 1024 * 1024]);
  assert(info.overlayBytes > 3_000_000 && info.overlayBytes <= info.dataBytes, String(info));
  const other = join(folder, "cli.qcow2");
  const told = lanebox("flatten", ...persistent, other);
  const flat = JSON.parse(lanebox("info", "--json", other));
  assert(told.includes(flat.digest), told);
  assert.deepEqual([flat.name, flat.diskBytes], [undefined, 512 * 1024 * 1024]);
  execFileSync("qemu-img", ["compare", "-q", dest, other]);
  rmSync(other);
});

test("an image is never written over, and what is aborted leaves nothing", async () => {
  await assert.rejects(rootfs.flatten({ format: "qcow2", source, dest }), (error) => {
    assert(error instanceof SandboxError && error.code === "file-error", String(error));
    assert.equal(error.errno, "EEXIST");
    return true;
  });
  const before = readdirSync(folder);
  const control = new AbortController();
  const other = join(folder, "other.qcow2");
  const aborted = rootfs.flatten({
    format: "qcow2",
    source,
    dest: other,
    signal: control.signal,
    onProgress: () => control.abort(),
  });
  await assert.rejects(aborted, { name: "AbortError" });
  assert(!existsSync(other));
  assert.deepEqual(readdirSync(folder), before);
});
