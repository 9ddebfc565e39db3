import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { BytesOptions } from "./disk-bytes.js";
import { Chunks } from "./disk-bytes.js";
import { rootfs } from "./rootfs.js";
import type { Scenario } from "./testing/fake-helper.js";
import { FAKE_DISK } from "./testing/fake-images.js";
import { FAKE_IMAGE, refused, type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
function start(images?: Scenario["images"]) {
  setup = setUp(images === undefined ? {} : { images });
  return rootfs.builtIn(FAKE_IMAGE);
}
afterEach(() => {
  const left = setup.alive();
  setup.remove();
  assert.deepEqual(left, []);
});

const expected = Buffer.concat([
  Buffer.alloc(FAKE_DISK.data, 1),
  Buffer.alloc(FAKE_DISK.hole),
  Buffer.alloc(FAKE_DISK.end, 2),
]);

test("a disk comes in chunks of one size, holes as zeros", async () => {
  const image = start();
  for (const chunkSize of [512, 1000, 6024, 7000]) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of rootfs.bytes(image, { chunkSize })) chunks.push(chunk);
    assert(Buffer.concat(chunks).equals(expected), `${chunkSize}`);
    assert(chunks.slice(0, -1).every(({ byteLength }) => byteLength === chunkSize));
  }
});

test("leaving the loop ends the helper, and one that is not begun starts none", async () => {
  const image = start("hang");
  rootfs.bytes(image);
  for await (const chunk of rootfs.bytes(image, { chunkSize: 512 })) {
    assert.equal(chunk[0], 1);
    break;
  }
  assert.equal(setup.notes().filter((line) => line.startsWith("pid")).length, 1);
});

test("aborting rejects with an AbortError, before it and during it", async () => {
  const image = start("hang");
  const control = new AbortController();
  const reading = rootfs.bytes(image, { chunkSize: 512, signal: control.signal });
  assert.equal((await reading.next()).value?.byteLength, 512);
  const next = reading.next();
  control.abort();
  await assert.rejects(next, { name: "AbortError" });
  await assert.rejects(rootfs.bytes(image, { signal: control.signal }).next(), {
    name: "AbortError",
  });
});

test("what the helper refuses is the iteration's error", async () => {
  const image = start("refuse");
  const base = rootfs.persistent({ base: image, path: "/lanes/1" });
  await assert.rejects(rootfs.bytes(base).next(), refused("disk-in-use", /in use/));
});

test("wrong options are refused at the call, by name", () => {
  const image = start();
  const wrong: [() => unknown, RegExp][] = [
    [() => rootfs.bytes(image, { chunkSize: 100 }), /options\.chunkSize/],
    [() => rootfs.bytes(image, { size: 1 } as BytesOptions), /options\.size: unknown/],
    [() => rootfs.bytes({} as never), /image: /],
    [() => rootfs.bytes(rootfs.ephemeral({ base: image })), /image: .*ephemeral/],
  ];
  for (const [call, message] of wrong) assert.throws(call, refused("invalid-argument", message));
});

test("chunks are memory of their own", () => {
  start();
  const chunks = new Chunks(4);
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
  const [first, second] = [...chunks.take({ case: "data", value: data })];
  first?.fill(0);
  assert.deepEqual([...(second ?? [])], [5, 6, 7, 8]);
  assert.deepEqual([...(chunks.rest() ?? [])], [9]);
});
