/** Writable roots whose blocks are kept by a store of this program, in real guests. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { describe, test } from "node:test";
import {
  type Rootfs,
  rootfs,
  type SandboxBlockChunk,
  type SandboxBlockStore,
  SandboxError,
} from "lanebox";
import { BUSYBOX, boot, heard, shell } from "./support/lane.js";
import { helpers } from "./support/processes.js";
import { Turns } from "./support/turns.js";

const base = rootfs.builtIn(BUSYBOX);
const BLOCK = 32 * 1024;
/** The blocks that a test has many of take no memory. */
const ZEROS = Buffer.alloc(BLOCK);

/** A store of the plain interface: no `discard`, and all that it needs of the context is `base`. */
class PlainStore implements SandboxBlockStore {
  readonly blockSize = BLOCK;
  readonly blocks = new Map<bigint, Uint8Array>();
  /** What was there when `flush` was called last. */
  durable = new Map<bigint, Uint8Array>();
  readonly bases = new Set<string>();
  readonly generations = new Set<bigint>();
  failing: string | undefined;
  hanging = false;
  largest = 0;

  async list(context: { base: string; generation: bigint }): Promise<bigint[]> {
    this.bases.add(context.base);
    this.generations.add(context.generation);
    return [...this.blocks.keys()];
  }

  async read({ start, count }: { start: bigint; count: number }): Promise<SandboxBlockChunk[]> {
    await this.#trouble();
    return Array.from({ length: count }, (_, index) => {
      const data = this.blocks.get(start + BigInt(index));
      assert(data, "a block that is not here was asked for");
      return { start: start + BigInt(index), data };
    });
  }

  async write(chunks: readonly SandboxBlockChunk[]): Promise<void> {
    await this.#trouble();
    let size = 0;
    for (const { start, data } of chunks) {
      size += data.byteLength;
      for (let at = 0; at < data.byteLength; at += BLOCK) {
        const block = data.subarray(at, at + BLOCK);
        this.blocks.set(start + BigInt(at / BLOCK), ZEROS.equals(block) ? ZEROS : block);
      }
    }
    this.largest = Math.max(this.largest, size);
  }

  async flush(): Promise<void> {
    await this.#trouble();
    this.durable = new Map(this.blocks);
  }

  /** A crash of everything: what was not flushed is lost. */
  crash(): void {
    this.blocks.clear();
    for (const [block, data] of this.durable) this.blocks.set(block, data);
  }

  async #trouble(): Promise<void> {
    if (this.failing !== undefined) throw new Error(this.failing);
    if (this.hanging) await new Promise(() => {});
  }
}

function cow(writable: SandboxBlockStore, maxDirtyBytes = 16 * 1024 * 1024) {
  return { rootfs: rootfs.cow({ base, writable, maxDirtyBytes, sizeMiB: 1024 }) };
}

/** Flattens it, and has the image looked at by QEMU's and ext4's own tools. */
async function isSound(source: Rootfs): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-composed-"));
  try {
    const [dest, raw] = [join(folder, "flat.qcow2"), join(folder, "flat.raw")];
    await rootfs.flatten({ format: "qcow2", source, dest });
    execFileSync("qemu-img", ["check", "-q", dest]);
    execFileSync("qemu-img", ["convert", "-O", "raw", dest, raw]);
    execFileSync("/sbin/e2fsck", ["-fn", raw], { stdio: "pipe" });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("a root in a store of the caller's", () => {
  test("has what was synced after a crash of everything, and the event loop goes on", async (t) => {
    const store = new PlainStore();
    const delay = monitorEventLoopDelay({ resolution: 5 });
    let sums: string;
    let busy: number;
    {
      await using vm = await boot({}, cow(store));
      delay.enable();
      const turns = new Turns();
      await shell(vm, "dd if=/dev/zero of=/big bs=1M count=512 conv=fsync 2>/dev/null");
      delay.disable();
      busy = turns.stop();
      sums = await shell(vm, "head -c 3000000 /dev/urandom > /kept; sync; sha256sum /kept");
      const [helper] = helpers();
      assert(helper);
      process.kill(helper.pid, "SIGKILL");
      await vm.closed;
    }
    t.diagnostic(`longest turn of the event loop: ${(delay.max / 1e6).toFixed(1)} ms`);
    t.diagnostic(`processor time in the busiest turn: ${busy.toFixed(1)} ms`);
    assert(busy < 50, `${busy} ms`);
    assert(store.largest > 0 && store.largest <= 4 * 1024 * 1024, `${store.largest}`);
    store.crash();
    const source = rootfs.compose({ base, overlay: store, sizeMiB: 1024 });
    {
      const console = heard();
      await using vm = await boot(console, { rootfs: rootfs.cow({ source }) });
      assert.equal(await shell(vm, "sha256sum /kept"), sums);
      assert.match(console.text(), /e2fsck: .*recovering journal/);
    }
    await isSound(source);
    assert.deepEqual([...store.bases], [base.digest]);
    const [first, second] = [...store.generations];
    assert(first !== undefined && second !== undefined && first < second);
  });

  test("that was grown is refused by name when its size is not given again", async () => {
    const store = new PlainStore();
    await (await boot({}, cow(store))).close();
    const smaller = rootfs.cow({ base, writable: store });
    await assert.rejects(boot({}, { rootfs: smaller }), (error) => {
      assert(error instanceof SandboxError, String(error));
      assert.match(`${error.message} ${error.remedy}`, /sizeMiB/);
      return true;
    });
  });

  test("fails in the guest, with an event, when the store fails; close is bounded", async () => {
    const store = new PlainStore();
    const vm = await boot({}, cow(store));
    const events = (async () => {
      for await (const event of vm.events()) if (event.type === "store-error") return event;
      return undefined;
    })();
    store.failing = "the bucket is gone";
    const synced = await vm.exec("sh", ["-c", "echo lost > /lost; sync /lost"]);
    assert.notEqual(synced.exitCode, 0);
    const event = await events;
    assert(event?.message.includes("the bucket is gone"), event?.message);
    store.hanging = true;
    store.failing = undefined;
    await vm.close();
    assert.notEqual((await vm.closed).reason, "helper-exited");
  });

  const wrongLists: [string, Partial<SandboxBlockStore>, RegExp][] = [
    ["rejects", { list: () => Promise.reject(new Error("no such bucket")) }, /no such bucket/],
    ["lists a block outside of the disk", { list: async () => [1n << 40n] }, /outside of the disk/],
    [
      "lists what is no block",
      { list: async () => ["1" as unknown as bigint] },
      /number of a block/,
    ],
  ];
  for (const [what, change, message] of wrongLists) {
    test(`does not boot when the store ${what}`, async () => {
      const store = Object.assign(new PlainStore(), change);
      await assert.rejects(boot({}, cow(store)), (error) => {
        assert(error instanceof SandboxError && error.code === "disk-invalid", String(error));
        assert.match(error.message, message);
        return true;
      });
    });
  }
});
