import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { refuseWritableByOthers } from "./artifact-safety.js";
import { findHelper, findImages } from "./artifacts.js";
import { rootfs, type SandboxError } from "./index.js";
import { helperPackageName, machineArchitecture } from "./machine.js";
import { FAKE_IMAGE, refused, type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
beforeEach(() => {
  setup = setUp();
});
afterEach(() => setup.remove());

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
    refused("artifact-invalid", message)(problems[0]?.error);
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

const otherArchitecture = machineArchitecture() === "x86_64" ? "aarch64" : "x86_64";

test("an image for another processor is not offered, and the error says whose it is", () => {
  edit(imageJson, (descriptor) => {
    descriptor["architecture"] = otherArchitecture;
  });
  assert.throws(
    () => rootfs.builtIn(FAKE_IMAGE),
    refused("artifact-missing", new RegExp(`not installed.* is for ${otherArchitecture}`)),
  );
});

test("an image package that is there and wrong is its own error", () => {
  cpSync(join(setup.directory, "image-fake"), join(setup.directory, "image-other-2"), {
    recursive: true,
  });
  edit("image-other-2/image.json", (descriptor) => {
    descriptor["name"] = "other:2";
    descriptor["architecture"] = otherArchitecture;
  });
  assert.throws(
    () => rootfs.builtIn("other:2"),
    refused("platform-unsupported", new RegExp(`other:2 .*is for ${otherArchitecture}`)),
  );
  writeFileSync(join(setup.directory, "image-other-2/image.json"), "garbage");
  assert.throws(() => rootfs.builtIn("other:2"), refused("artifact-invalid", /image\.json/));
});

test("a machine that there is no helper for is told so, musl among them", () => {
  const machines = [
    [
      { platform: "win32", arch: "x64", libc: undefined },
      /which is win32-x64; there are linux-x64/,
    ],
    [{ platform: "linux", arch: "riscv64", libc: "gnu" }, /which is linux-riscv64-gnu/],
    [{ platform: "linux", arch: "x64", libc: "musl" }, /linux-x64-musl.*glibc 2\.36/],
  ] as const;
  for (const [machine, message] of machines) {
    assert.throws(() => findHelper(machine), refused("platform-unsupported", message));
  }
});

test("a helper package that is not installed is an error that names it", () => {
  const machine = { platform: "darwin", arch: "arm64", libc: undefined };
  assert.throws(
    () => findHelper(machine),
    (error: SandboxError) => {
      refused("artifact-missing", /darwin-arm64 is not installed/)(error);
      assert.match(error.remedy ?? "", /npm install @lanebox\/darwin-arm64/);
      return true;
    },
  );
});

test("a helper for another processor is refused by its descriptor", () => {
  edit(helperJson, (descriptor) => {
    descriptor["architecture"] = otherArchitecture;
  });
  assert.throws(
    () => findHelper(),
    refused("artifact-invalid", new RegExp(`architecture: it is for ${otherArchitecture}`)),
  );
});

test("what others can write is refused, file or folder, of the helper and of images", () => {
  const folder = join(setup.directory, helperPackageName());
  for (const path of ["", "artifact.json", "sandbox-host", "vmlinux", "initramfs.cpio"]) {
    const target = join(folder, path);
    chmodSync(target, 0o757);
    assert.throws(
      () => findHelper(),
      (error: SandboxError) => {
        refused("artifact-unsafe", /can be changed by anybody/)(error);
        assert(error.remedy?.includes(`chmod go-w '${join(target)}'`) || path === "");
        return true;
      },
    );
    chmodSync(target, 0o755);
  }
  findHelper();
  chmodSync(join(setup.directory, "image-fake/rootfs.raw"), 0o666);
  refused("artifact-unsafe", /rootfs\.raw can be changed/)(findImages().problems[0]?.error);
  assert.throws(() => rootfs.builtIn(FAKE_IMAGE), refused("artifact-missing", /can be changed/));
});

test("a group may write when it is the owner's own, and in no other case", () => {
  const file = join(setup.directory, helperPackageName(), "vmlinux");
  chmodSync(file, 0o664);
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  const users = `me:x:${uid}:${gid}::/:/bin/sh\n`;
  const check = (accounts: { users: string; groups: string }) =>
    refuseWritableByOthers(file, () => accounts);
  check({ users, groups: `me:x:${gid}:\n` });
  check({ users, groups: `me:x:${gid}:me\n` });
  const shared = [
    { users, groups: `staff:x:${gid}:\n` },
    { users, groups: `me:x:${gid}:me,you\n` },
    { users: `${users}you:x:9:${gid}::/:/bin/sh\n`, groups: `me:x:${gid}:\n` },
    { users, groups: "" },
    { users: "", groups: `me:x:${gid}:\n` },
  ];
  for (const accounts of shared) {
    assert.throws(() => check(accounts), refused("artifact-unsafe", /changed by the group/));
  }
});

test("what belongs to another user is refused", {
  skip: process.getuid?.() === 0 ? false : "only root can give files away",
}, () => {
  chownSync(join(setup.directory, helperJson), 12345, 12345);
  assert.throws(() => findHelper(), refused("artifact-unsafe", /belongs to the user 12345/));
});

test("a helper with another digest is not started, and one that was right is looked at again", async () => {
  const host = join(setup.directory, helperPackageName(), "sandbox-host");
  await (await setup.sandbox.boot()).close();
  const started = setup.notes().length;
  const good = readFileSync(host);
  const bad = Buffer.from(good);
  bad[bad.length - 2] = 0x20; // as many bytes, and still a program
  writeFileSync(host, bad);
  utimesSync(host, 1, 1);
  await assert.rejects(
    setup.sandbox.boot(),
    refused("artifact-invalid", /sandbox-host is not the file that its descriptor means/),
  );
  assert.equal(setup.notes().length, started);
  writeFileSync(host, good);
  await (await setup.sandbox.boot()).close();
});

test("a helper that cannot be executed is an error that says what to do", async () => {
  const host = join(setup.directory, helperPackageName(), "sandbox-host");
  chmodSync(host, 0o644);
  await assert.rejects(setup.sandbox.boot(), (error: SandboxError) => {
    refused("artifact-invalid", /sandbox-host cannot be executed/)(error);
    assert.equal(error.errno, "EACCES");
    assert.match(error.remedy ?? "", /chmod \+x/);
    return true;
  });
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
