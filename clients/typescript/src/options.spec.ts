import assert from "node:assert/strict";
import { after, test } from "node:test";
import { planBoot } from "./boot.js";
import { network, rootfs } from "./index.js";
import { checkDefinition } from "./options.js";
import { FAKE_IMAGE, refused, setUp } from "./testing/harness.js";

const setup = setUp();
after(() => setup.remove());
const root = rootfs.builtIn(FAKE_IMAGE);

test("a definition has its defaults", () => {
  const { resources, isolation } = checkDefinition({ rootfs: root });
  assert.deepEqual(resources, { cpus: 1, memoryMiB: 512 });
  const { cgroup, ...others } = isolation;
  assert.equal(cgroup, undefined);
  assert.deepEqual(others, { minimum: "emulated", engine: "auto", confinement: "on" });
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

test("ports to publish need a network, and a secret's name is not given twice", () => {
  const plain = checkDefinition({ rootfs: root });
  const publish = [{ guestPort: 80 }];
  assert.throws(
    () => planBoot(plain, { publish }),
    refused("invalid-argument", /^options\.publish: the definition has no network/),
  );
  const secrets = network.secrets({ TOKEN: { value: "x", hosts: "a.example" } });
  const definition = checkDefinition({ rootfs: root, network: secrets });
  assert.throws(
    () => planBoot(definition, { env: { TOKEN: "y" } }),
    refused("invalid-argument", /^options\.env\.TOKEN: a secret/),
  );
  const wrong: [unknown, RegExp][] = [
    [{ guestPort: 80 }, /options\.publish: expected an array/],
    [[{}], /options\.publish\[0\]\.guestPort/],
    [[{ guestPort: 0 }], /options\.publish\[0\]\.guestPort.*got 0/],
    [[{ guestPort: 80, hostPort: 65536 }], /options\.publish\[0\]\.hostPort.*got 65536/],
    [[{ guestPort: 80, host: "localhost" }], /options\.publish\[0\]\.host.*'localhost'/],
    [[{ guestPort: 80, port: 1 }], /options\.publish\[0\]\.port: unknown option/],
    [Array(65).fill({ guestPort: 80 }), /options\.publish: 65 ports, where 64/],
  ];
  for (const [publish, message] of wrong) {
    assert.throws(() => planBoot(definition, { publish }), refused("invalid-argument", message));
  }
  assert.equal(planBoot(plain, { mounts: {} }).request.network, undefined);
  assert.equal(planBoot(definition, { publish }).request.network?.secrets[0]?.name, "TOKEN");
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
