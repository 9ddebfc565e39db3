import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { findHelper, findImages, helperPackageName, machineArchitecture } from "./artifacts.js";
import { rootfs, SandboxError } from "./index.js";
import { FAKE_IMAGE, type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
beforeEach(() => {
  setup = setUp();
});
afterEach(() => setup.remove());

function refused(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof SandboxError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

/** Changes a descriptor of the set-up. */
function edit(path: string, change: (descriptor: Record<string, unknown>) => void): void {
  const file = join(setup.directory, path);
  const descriptor = JSON.parse(readFileSync(file, "utf8"));
  change(descriptor);
  writeFileSync(file, JSON.stringify(descriptor));
}

const helperJson = `${helperPackageName()}/artifact.json`;
const imageJson = "image-fake/image.json";

test("the helper's files come with path, digest and size", () => {
  const { kernel, host, initramfs } = findHelper();
  assert.equal(kernel.path, join(setup.directory, helperPackageName(), "vmlinux"));
  assert.match(kernel.digest, /^sha256:[0-9a-f]{64}$/);
  assert.equal(kernel.sizeBytes, "a kernel".length);
  assert.match(host.path, /sandbox-host$/);
  assert.match(initramfs.path, /initramfs\.cpio$/);
});

test("LANEBOX_ARTIFACTS that is relative, missing or a file is an error that names it", () => {
  for (const wrong of [
    "artifacts",
    join(setup.directory, "nowhere"),
    join(setup.directory, "log"),
  ]) {
    process.env["LANEBOX_ARTIFACTS"] = wrong;
    assert.throws(() => findHelper(), refused("invalid-argument", /^LANEBOX_ARTIFACTS: /));
  }
});

test("a file of the helper package that is missing or cut is told before anything starts", () => {
  const kernel = join(setup.directory, helperPackageName(), "vmlinux");
  truncateSync(kernel, 3);
  assert.throws(() => findHelper(), refused("artifact-invalid", /vmlinux has 3 bytes/));
  rmSync(kernel);
  assert.throws(() => findHelper(), refused("artifact-missing", /vmlinux/));
});

test("descriptors are checked like options and name their file", () => {
  edit(helperJson, (descriptor) => {
    descriptor["name"] = "other";
  });
  assert.throws(() => findHelper(), refused("artifact-invalid", /artifact\.json: name/));
  writeFileSync(join(setup.directory, helperJson), "{ not json");
  assert.throws(() => findHelper(), refused("artifact-invalid", /artifact\.json/));

  const wrong: [string, unknown, RegExp][] = [
    ["schema", 2, /schema/],
    ["digest", "sha256:ABC", /digest/],
    ["path", "../../etc/passwd", /path/],
    ["path", ".hidden", /path/],
    ["sizeBytes", -1, /sizeBytes/],
    ["name", "debian:latest", /moving aliases/],
    ["surprise", 1, /surprise: unknown/],
  ];
  for (const [field, value, message] of wrong) {
    const before = readFileSync(join(setup.directory, imageJson), "utf8");
    edit(imageJson, (descriptor) => {
      descriptor[field] = value;
    });
    const { images, problems } = findImages();
    assert(!images.some(({ descriptor }) => descriptor.id === "fake"));
    assert.equal(problems.length, 1);
    refused("artifact-invalid", message)(problems[0]);
    assert.throws(() => rootfs.builtIn(FAKE_IMAGE), refused("artifact-missing", message));
    writeFileSync(join(setup.directory, imageJson), before);
  }
});

test("builtIn finds an image by its name with digest and facts", () => {
  const image = rootfs.builtIn(FAKE_IMAGE);
  assert.equal(image.name, FAKE_IMAGE);
  assert.match(image.digest, /^sha256:/);
  assert.deepEqual(image.facts, [{ topic: "os", relation: "is", value: "fake" }]);
});

test("an image that is not installed is an error that says how to get it", () => {
  assert.throws(
    () => rootfs.builtIn("nixos:99.9"),
    (error: SandboxError) => {
      assert.equal(error.code, "artifact-missing");
      assert.match(
        error.remedy ?? "",
        /npm install @lanebox\/image-nixos-99\.9.*scripts\/build-image nixos-99\.9/,
      );
      return true;
    },
  );
});

test("names without a fixed version are refused", () => {
  for (const name of ["debian", "debian:latest", "", "debian:", ":12", "Debian:12"]) {
    assert.throws(() => rootfs.builtIn(name), refused("invalid-argument", /^name: /));
  }
});

test("an image for another processor is not offered", () => {
  edit(imageJson, (descriptor) => {
    descriptor["architecture"] = machineArchitecture() === "x86_64" ? "aarch64" : "x86_64";
  });
  assert.throws(() => rootfs.builtIn(FAKE_IMAGE), refused("artifact-missing", /not installed/));
});

test("folders that are no artifact packages are passed over", () => {
  mkdirSync(join(setup.directory, "image-empty"));
  mkdirSync(join(setup.directory, "something"));
  assert.deepEqual(
    findImages()
      .images.filter(({ directory }) => directory.startsWith(setup.directory))
      .map(({ descriptor }) => descriptor.name),
    [FAKE_IMAGE],
  );
});

test("an image that is gone when it is booted is artifact-missing", async () => {
  rmSync(join(setup.directory, "image-fake/rootfs.raw"));
  await assert.rejects(setup.sandbox.boot(), refused("artifact-missing", /rootfs\.raw/));
});

test("rootfs.image takes any file and refuses what is ill-formed", () => {
  const good = {
    name: "mine:1",
    path: "/images/mine.raw",
    format: "raw",
    architecture: machineArchitecture() ?? "x86_64",
    digest: `sha256:${"0".repeat(64)}`,
    sizeBytes: 512,
  } as const;
  assert.equal(rootfs.image(good).name, "mine:1");
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ path: "mine.raw" }, /^options\.path/],
    [{ format: "vmdk" }, /^options\.format/],
    [{ digest: "0".repeat(64) }, /^options\.digest/],
    [{ sizeBytes: 0 }, /^options\.sizeBytes/],
    [{ name: "mine:latest" }, /^options\.name/],
    [{ architecture: "riscv64" }, /^options\.architecture/],
    [
      { architecture: good.architecture === "x86_64" ? "aarch64" : "x86_64" },
      /^options\.architecture.*this machine is/,
    ],
    [{ facts: [{ topic: "os" }] }, /^options\.facts\[0\]\.relation/],
    [{ base: 1 }, /^options\.base: unknown/],
  ];
  for (const [change, message] of wrong) {
    assert.throws(() => rootfs.image({ ...good, ...change }), refused("invalid-argument", message));
  }
});
