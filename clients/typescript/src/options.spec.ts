import assert from "node:assert/strict";
import { after, test } from "node:test";
import { planBoot } from "./boot.js";
import { network, rootfs, SandboxError } from "./index.js";
import { checkDefinition } from "./options.js";
import { FAKE_IMAGE, setUp } from "./testing/harness.js";

const setup = setUp();
after(() => setup.remove());
const root = rootfs.builtIn(FAKE_IMAGE);

function refused(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof SandboxError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

test("a definition has its defaults", () => {
  const { resources, isolation } = checkDefinition({ rootfs: root });
  assert.deepEqual(resources, { cpus: 1, memoryMiB: 512 });
  assert.deepEqual(isolation, { minimum: "emulated", engine: "auto" });
});

test("LANEBOX_MIN_ISOLATION is the default of the minimum, and garbage in it is an error", () => {
  const before = process.env["LANEBOX_MIN_ISOLATION"];
  try {
    delete process.env["LANEBOX_MIN_ISOLATION"];
    assert.equal(checkDefinition({ rootfs: root }).isolation.minimum, "hardware");
    process.env["LANEBOX_MIN_ISOLATION"] = "Emulated";
    assert.throws(
      () => checkDefinition({ rootfs: root }),
      refused("invalid-argument", /^LANEBOX_MIN_ISOLATION: .*'Emulated'/),
    );
    const explicit = { rootfs: root, isolation: { minimum: "hardware" } };
    assert.equal(checkDefinition(explicit).isolation.minimum, "hardware");
  } finally {
    process.env["LANEBOX_MIN_ISOLATION"] = before;
  }
});

const badDefinitions: [unknown, RegExp][] = [
  [undefined, /^options\.rootfs/],
  [null, /^options: expected an object/],
  [{}, /^options\.rootfs/],
  [{ rootfs: "debian:12" }, /^options\.rootfs: .*'debian:12'/],
  [{ rootfs: root, cpus: 4 }, /^options\.cpus: unknown option/],
  [{ rootfs: root, resources: { cpus: 0 } }, /^options\.resources\.cpus: .* got 0/],
  [{ rootfs: root, resources: { cpus: 65 } }, /^options\.resources\.cpus/],
  [{ rootfs: root, resources: { memoryMiB: 127 } }, /^options\.resources\.memoryMiB/],
  [{ rootfs: root, resources: { memory: 512 } }, /^options\.resources\.memory: unknown/],
  [{ rootfs: root, isolation: { minimum: "none" } }, /^options\.isolation\.minimum/],
  [{ rootfs: root, isolation: { engine: "xen" } }, /^options\.isolation\.engine/],
];

for (const [given, message] of badDefinitions) {
  test(`a definition that fails with ${message} is refused when it is given`, () => {
    assert.throws(() => checkDefinition(given), refused("invalid-argument", message));
  });
}

const badBoots: [Record<string, unknown>, RegExp][] = [
  [{ hostname: "no_underscores" }, /^options\.hostname/],
  [{ cwd: "relative" }, /^options\.cwd: .*'relative'/],
  [{ env: { "A=B": "c" } }, /^options\.env/],
  [{ signal: {} }, /^options\.signal/],
  [{ console: "yes" }, /^options\.console/],
  [{ debugSocket: "socket" }, /^options\.debugSocket/],
  [{ timeout: 3 }, /^options\.timeout: unknown/],
  [{ mounts: [] }, /^options\.mounts/],
];

for (const [given, message] of badBoots) {
  test(`a boot that fails with ${message} is refused before anything starts`, () => {
    const definition = checkDefinition({ rootfs: root });
    assert.throws(() => planBoot(definition, given), refused("invalid-argument", message));
  });
}

test("what later versions have is refused as not supported", () => {
  const definition = checkDefinition({ rootfs: root });
  const later: [() => unknown, RegExp][] = [
    [() => checkDefinition({ rootfs: root, network: {} }), /options\.network/],
    [() => network.policy(async () => undefined), /network\.policy/],
    [() => rootfs.ephemeral({}), /rootfs\.ephemeral/],
    [() => rootfs.cow({}), /rootfs\.cow/],
    [() => rootfs.persistent({}), /rootfs\.persistent/],
  ];
  for (const [call, message] of later) assert.throws(call, refused("not-supported", message));
  assert.equal(planBoot(definition, { mounts: {} }).request.hostname, "sandbox");
});

test("a boot request carries the files with their digests, and the options", () => {
  const definition = checkDefinition({ rootfs: root, resources: { cpus: 2, memoryMiB: 256 } });
  const { request } = planBoot(definition, {
    hostname: "lane-1",
    cwd: "/tmp",
    env: { A: "b", C: undefined },
  });
  assert.equal(request.cpus, 2);
  assert.equal(request.memoryMib, 256);
  assert.equal(request.hostname, "lane-1");
  assert.equal(request.cwd, "/tmp");
  assert.deepEqual(request.env, { A: "b" });
  assert.match(request.kernel?.digest ?? "", /^sha256:[0-9a-f]{64}$/);
  assert.match(request.initramfs?.path ?? "", /\/initramfs\.cpio$/);
  assert.equal(request.root?.digest, root.digest);
  assert.equal(request.root?.sizeBytes, 8n);
});
