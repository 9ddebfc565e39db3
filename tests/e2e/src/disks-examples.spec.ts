/** The block stores of examples/, under real guests. */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { rootfs, type SandboxBlockStore, SandboxError } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { BUSYBOX, boot, shell } from "./support/lane.js";

const base = rootfs.builtIn(BUSYBOX);
const from = (name: string) => import(join(checkout, "examples/stores", name));

/** Writes in one lane, and reads in the next one. */
async function keeps(store: () => SandboxBlockStore): Promise<void> {
  const options = () => ({ rootfs: rootfs.cow({ base, writable: store() }) });
  let sum: string;
  {
    await using vm = await boot({}, options());
    await shell(vm, "head -c 2000000 /dev/urandom > /kept; cp /kept /gone; sync; rm /gone; sync");
    sum = await shell(vm, "sha256sum /kept");
  }
  await using vm = await boot({}, options());
  assert.equal(await shell(vm, "sha256sum /kept"), sum);
  assert.doesNotMatch(await shell(vm, "dmesg"), /EXT4-fs.*recovery/);
}

test("a directory keeps a root, and refuses another base and a stale writer", async () => {
  const { DirectoryBlockStore } = await from("directory.mjs");
  const folder = mkdtempSync(join(tmpdir(), "lanebox-store-"));
  try {
    const disk = join(folder, "disk");
    await keeps(() => new DirectoryBlockStore(disk));
    assert(readdirSync(disk).length > 10);
    const store: SandboxBlockStore = new DirectoryBlockStore(disk);
    const signal = new AbortController().signal;
    const other = { base: "another", generation: 2n ** 64n - 1n, signal };
    await assert.rejects(store.list(other), /has blocks over/);
    await assert.rejects(store.write([], { base: base.digest, generation: 1n, signal }), /later/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("an object storage keeps a root", async () => {
  const { ObjectBlockStore } = await from("objects.mjs");
  const { startObjectServer } = await from("object-server.mjs");
  const server = await startObjectServer();
  try {
    await keeps(() => new ObjectBlockStore(server.url, "lanes/1"));
    assert(server.objects.size > 10, `${server.objects.size}`);
    const refused = async () => new Response(null, { status: 503 });
    const writable = new ObjectBlockStore(server.url, "lanes/2", refused);
    await assert.rejects(
      boot({}, { rootfs: rootfs.cow({ base, writable }) }),
      (error) => error instanceof SandboxError && /503/.test(error.message),
    );
  } finally {
    await server.close();
  }
});
