import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { helperPackageName } from "./machine.js";
import { readManifest } from "./release-manifest.js";
import { refused, type Setup, setUp } from "./testing/harness.js";
import { openManifest, verifyRelease } from "./verify-release.js";

const helper = `@lanebox/${helperPackageName()}`;
let setup: Setup;
let path: string;
beforeEach(() => {
  setup = setUp();
  path = join(setup.directory, "release.json");
  writeFileSync(path, JSON.stringify(manifest()));
});
afterEach(() => setup.remove());

/** A manifest of what was set up, of an image that is not there and of a helper for another system. */
function manifest() {
  const listed = (folder: string) => {
    const directory = join(setup.directory, folder);
    const names = readdirSync(directory).sort();
    return Object.fromEntries(
      names.map((name) => {
        const bytes = readFileSync(join(directory, name));
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        return [name, { sha256, sizeBytes: bytes.length }];
      }),
    );
  };
  const some = { "a/b.txt": { sha256: "0".repeat(64), sizeBytes: 3 } };
  return {
    schema: 1,
    version: "1.2.3",
    source: { repository: "https://example.com/lanebox", commit: "0123456", modified: false },
    inputs: { kernel: "6.1" },
    packages: [
      { name: helper, version: "1.2.3", files: listed(helperPackageName()) },
      { name: "@lanebox/image-fake", version: "1.2.3", files: listed("image-fake") },
      { name: "@lanebox/image-none-1", version: "1.2.3", files: some },
      { name: "@lanebox/plan9-mips", version: "1.2.3", files: some },
    ],
  };
}

async function findings() {
  const found = await verifyRelease(openManifest(path));
  return Object.fromEntries(
    found.map(({ name, status, wrong }) => [
      name,
      [status, ...wrong.map((file) => `${file.path} ${file.status}`)].join(", "),
    ]),
  );
}

test("what is installed as it was released is found so; images need not be installed", async () => {
  assert.deepEqual(await findings(), {
    [helper]: "ok",
    "@lanebox/image-fake": "ok",
    "@lanebox/image-none-1": "not-installed",
  });
});

test("each file that was changed, is gone or came is told", async () => {
  const at = (name: string) => join(setup.directory, name);
  appendFileSync(at("image-fake/rootfs.raw"), "x");
  writeFileSync(at(`${helperPackageName()}/vmlinux`), "a Kernel"); // the same size
  rmSync(at(`${helperPackageName()}/initramfs.cpio`));
  writeFileSync(at(`${helperPackageName()}/more`), "");
  assert.deepEqual(await findings(), {
    [helper]: "differs, initramfs.cpio missing, vmlinux differs, more unexpected",
    "@lanebox/image-fake": "differs, rootfs.raw differs",
    "@lanebox/image-none-1": "not-installed",
  });
});

test("a manifest without this machine's helper says nothing of what is booted: it is missing", async () => {
  const whole = JSON.parse(readFileSync(path, "utf8"));
  const packages = whole.packages.filter(({ name }: { name: string }) => name !== helper);
  writeFileSync(path, JSON.stringify({ ...whole, packages }));
  assert.equal((await findings())[helper], "missing");
});

test("a manifest that is none is refused; a checkout has none", () => {
  assert.throws(
    () => openManifest(undefined),
    refused("artifact-missing", /not made by a release/),
  );
  const whole = JSON.parse(readFileSync(path, "utf8"));
  const file = { sha256: "0".repeat(64), sizeBytes: 1 };
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ schema: 2 }, /schema/],
    [{ packages: [{ name: "left-pad", version: "1", files: {} }] }, /packages\[0\]\.name/],
    [{ packages: [{ name: helper, version: "1", files: { "../x": file } }] }, /files.*inside/],
    [{ packages: [{ name: helper, version: "1", files: { "/x": file } }] }, /files.*inside/],
    [
      { packages: [{ name: helper, version: "1", files: { x: { ...file, sha256: "1" } } }] },
      /sha256/,
    ],
    [{ source: {} }, /source\.repository/],
    [{ surprise: 1 }, /surprise/],
  ];
  for (const [change, message] of wrong) {
    writeFileSync(path, JSON.stringify({ ...whole, ...change }));
    assert.throws(() => readManifest(path), refused("artifact-invalid", message));
  }
  writeFileSync(path, "no json");
  assert.throws(() => readManifest(path), refused("artifact-invalid", /release\.json/));
});
