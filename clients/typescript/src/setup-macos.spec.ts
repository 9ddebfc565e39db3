// Signing for macOS, as far as another system can check it: with a stand-in for codesign.
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { verifyExecutable } from "./artifact-digest.js";
import { findHelper } from "./artifacts.js";
import type { SandboxError } from "./errors.js";
import { helperPackageName, machineArchitecture } from "./machine.js";
import { setupMacos } from "./setup-macos.js";
import { refused, type Setup, setUp } from "./testing/harness.js";

const mac = { platform: "darwin", arch: "arm64", libc: undefined };
let setup: Setup;
let directory: string;
let path: string | undefined;

/** The set-up as a macOS machine with such a package would have it. */
beforeEach(() => {
  setup = setUp();
  directory = join(setup.directory, "darwin-arm64");
  renameSync(join(setup.directory, helperPackageName()), directory);
  const descriptor = JSON.parse(readFileSync(join(directory, "artifact.json"), "utf8"));
  const changed = { ...descriptor, name: "darwin-arm64", architecture: machineArchitecture(mac) };
  writeFileSync(join(directory, "artifact.json"), JSON.stringify(changed));
  writeFileSync(join(directory, "entitlements.plist"), "<plist/>");
  mkdirSync(join(setup.directory, "bin"));
  path = process.env["PATH"];
});
afterEach(() => {
  process.env["PATH"] = path;
  setup.remove();
});

/** Puts a codesign that does this after it has noted its arguments in front of the PATH. */
function fakeCodesign(script: string): void {
  const file = join(setup.directory, "bin/codesign");
  const log = join(setup.directory, "log");
  writeFileSync(file, `#!/bin/sh\necho "$*" >>'${log}'\nfor last; do :; done\n${script}\n`);
  chmodSync(file, 0o755);
  process.env["PATH"] = `${join(setup.directory, "bin")}:${path}`;
}

const SIGNS = `case $1 in
  --sign) echo "# signed with $5" >>"$last" ;;
  --display) echo '<key>com.apple.security.hypervisor</key><true/>' ;;
esac`;

test("the helper is signed ad hoc, with the entitlements, as a copy that is used from then on", async () => {
  fakeCodesign(SIGNS);
  const released = findHelper(mac).host;
  const before = readFileSync(released.path);
  const signed = await setupMacos(mac);
  assert.equal(signed, join(directory, "signed/sandbox-host"));
  assert.deepEqual(readFileSync(released.path), before);
  const [sign, verify, display] = setup.notes();
  assert.match(
    sign ?? "",
    /^--sign - --force --entitlements .*\/entitlements\.plist .*\/sandbox-host$/,
  );
  assert.match(verify ?? "", /^--verify --strict .*\/sandbox-host$/);
  assert.match(display ?? "", /^--display --entitlements - --xml .*\/sandbox-host$/);
  assert.match(readFileSync(signed, "utf8"), /# signed with \/.*entitlements\.plist\n$/);
  const { host } = findHelper(mac);
  assert.equal(host.path, signed);
  assert.equal(host.sizeBytes, statSync(signed).size);
  await verifyExecutable(host);
  assert.equal(await setupMacos(mac), signed); // as often as one likes
  assert.deepEqual(readdirSync(directory).sort(), [
    "artifact.json",
    "entitlements.plist",
    "initramfs.cpio",
    "sandbox-host",
    "signed",
    "vmlinux",
  ]);
});

test("a signed copy that was changed, or is of another helper, is refused", async () => {
  fakeCodesign(SIGNS);
  const signed = await setupMacos(mac);
  writeFileSync(signed, "something else");
  await assert.rejects(
    verifyExecutable(findHelper(mac).host),
    refused("artifact-invalid", /signed/),
  );
  const descriptor = join(directory, "signed/signed.json");
  const content = JSON.parse(readFileSync(descriptor, "utf8"));
  writeFileSync(descriptor, JSON.stringify({ ...content, from: `sha256:${"0".repeat(64)}` }));
  assert.throws(
    () => findHelper(mac),
    refused("artifact-invalid", /signed copy of another helper/),
  );
  writeFileSync(descriptor, "{}");
  assert.throws(() => findHelper(mac), refused("artifact-invalid", /signed\.json/));
});

test("on another system it is an error that says so", async () => {
  for (const platform of ["linux", "win32"]) {
    const machine = { platform, arch: "x64", libc: undefined };
    await assert.rejects(setupMacos(machine), refused("platform-unsupported", /setup-macos signs/));
  }
});

test("what codesign lacks is told with a remedy, and nothing half-done is left", async () => {
  const cases: [string, RegExp][] = [
    ["echo 'no identity found' >&2; exit 1", /codesign --sign failed: no identity found/],
    [
      'case $1 in --verify) echo "invalid signature" >&2; exit 3;; esac',
      /--verify failed: invalid/,
    ],
    ["true", /left the entitlement com\.apple\.security\.hypervisor out/],
  ];
  for (const [script, message] of cases) {
    fakeCodesign(script);
    await assert.rejects(setupMacos(mac), (error: SandboxError) => {
      refused("signing-failed", message)(error);
      assert(error.remedy);
      return true;
    });
    assert(!existsSync(join(directory, "signed")));
    assert(!readdirSync(directory).some((name) => name.startsWith(".signing")));
  }
  process.env["PATH"] = join(setup.directory, "nowhere");
  await assert.rejects(setupMacos(mac), refused("signing-failed", /codesign is not installed/));
});

test("a helper that is missing or not the released one is not signed", async () => {
  fakeCodesign(SIGNS);
  rmSync(join(directory, "entitlements.plist"));
  await assert.rejects(setupMacos(mac), refused("artifact-missing", /entitlements\.plist/));
  writeFileSync(join(directory, "entitlements.plist"), "<plist/>");
  const host = join(directory, "sandbox-host");
  const { size } = statSync(host);
  writeFileSync(host, "x".repeat(size));
  await assert.rejects(
    setupMacos(mac),
    refused("artifact-invalid", /sandbox-host is not the file/),
  );
  rmSync(host);
  await assert.rejects(setupMacos(mac), refused("artifact-missing", /sandbox-host/));
  rmSync(directory, { recursive: true });
  await assert.rejects(setupMacos(mac), refused("artifact-missing", /npm|not installed/));
  assert.deepEqual(setup.notes(), []);
});
