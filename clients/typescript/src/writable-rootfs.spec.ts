import assert from "node:assert/strict";
import { after, test } from "node:test";
import { planBoot } from "./boot.js";
import { checkDefinition } from "./options.js";
import { rootfs } from "./rootfs.js";
import { FAKE_IMAGE, refused, setUp } from "./testing/harness.js";
import type { EphemeralOptions, PersistentOptions } from "./writable-rootfs.js";

const setup = setUp();
after(() => setup.remove());
const base = rootfs.builtIn(FAKE_IMAGE);
const MIB = 1024 * 1024;

function overlayOf(root: ReturnType<typeof rootfs.ephemeral>) {
  return planBoot(checkDefinition({ rootfs: root }), {}).request.root?.overlay;
}

test("an ephemeral root has 64 MiB in memory, or what it is given", () => {
  const usual = overlayOf(rootfs.ephemeral({ base }));
  assert.equal(usual?.sizeBytes, 0n);
  assert.equal(usual?.store.case === "memory" && usual.store.value.quotaBytes, BigInt(64 * MIB));
  const given = overlayOf(rootfs.ephemeral({ base, maxDirtyBytes: 16 * MIB, sizeMiB: 512 }));
  assert.equal(given?.sizeBytes, BigInt(512 * MIB));
  assert.equal(given?.store.case === "memory" && given.store.value.quotaBytes, BigInt(16 * MIB));
});

test("a persistent root has its file", () => {
  const { store } = overlayOf(rootfs.persistent({ base, path: "/lanes/1" })) ?? {};
  assert.equal(store?.case === "file" && store.value.path, "/lanes/1");
});

const bad: [() => unknown, RegExp][] = [
  [() => rootfs.ephemeral({} as EphemeralOptions), /options\.base/],
  [() => rootfs.ephemeral({ base, maxDirtyBytes: MIB }), /options\.maxDirtyBytes/],
  [() => rootfs.ephemeral({ base, sizeMiB: 0.5 }), /options\.sizeMiB/],
  [() => rootfs.ephemeral({ base, size: 1 } as EphemeralOptions), /options\.size: unknown/],
  [() => rootfs.persistent({ base } as PersistentOptions), /options\.path/],
  [() => rootfs.persistent({ base, path: "lane" }), /options\.path/],
  [() => rootfs.persistent({ base: {}, path: "/a" } as PersistentOptions), /options\.base/],
  [() => checkDefinition({ rootfs: {} }), /options\.rootfs/],
];
for (const [call, message] of bad) {
  test(`a writable root with wrong ${message} is refused`, () => {
    assert.throws(call, refused("invalid-argument", message));
  });
}
