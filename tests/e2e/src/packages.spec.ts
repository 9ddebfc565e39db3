/**
 * What people install: the packages are packed, installed into an empty project outside of the
 * checkout, and used from there alone.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { artifacts, checkout, sha256 } from "./support/artifacts.js";
import { AGENT, BUSYBOX, DEBIAN, engineUnderTest } from "./support/lane.js";
import { newFolder, Project, packDependencies, packRelease } from "./support/project.js";

interface Manifest {
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly tarball?: { readonly file: string; readonly sha256: string };
    readonly files: Record<string, { readonly sha256: string; readonly sizeBytes: number }>;
  }[];
  readonly source: { readonly commit: string };
  readonly inputs: { readonly packages: Record<string, Record<string, unknown>> };
}

const noHelper = existsSync(join(artifacts, "linux-x64-gnu/artifact.json"))
  ? false
  : "the Linux helper is not built here; run: scripts/build";
const noAgent = existsSync(join(artifacts, "image-debian-12-agent/image.json"))
  ? noHelper
  : "not built here; run: scripts/build-image debian-12-agent";
const PLATFORM = "@lanebox/linux-x64-gnu";

describe("the packages of a release", { skip: noHelper }, () => {
  let packed: string;
  let dependencies: string;
  let project: Project;
  let manifest: Manifest;
  let deps: string[];

  before(async () => {
    packed = newFolder();
    dependencies = newFolder();
    project = new Project();
    const shorts = ["lanebox", "linux-x64-gnu", "darwin-arm64", "image-busybox", "image-debian-12"];
    const tarballs = await packRelease(packed, shorts);
    deps = await packDependencies(dependencies);
    manifest = JSON.parse(readFileSync(join(packed, "release.json"), "utf8"));
    await project.install([...tarballs.filter((file) => !file.includes("darwin")), ...deps]);
  });
  after(() => {
    project?.remove();
    for (const folder of [packed, dependencies]) rmSync(folder, { recursive: true, force: true });
  });

  /** package.json in a tarball, or another file of it. */
  const fileOf = (name: string, path = "package.json"): string => {
    const { tarball } = manifest.packages.find((one) => one.name === name) ?? {};
    assert(tarball, `${name} is not in the manifest`);
    const args = ["-xzOf", join(packed, tarball.file), `package/${path}`];
    return execFileSync("tar", args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  };

  test("are what the manifest says, run nothing when they are installed, and fit together", () => {
    const versions = new Set(manifest.packages.map(({ version }) => version));
    assert.equal(versions.size, 1);
    const [version] = versions;
    assert.match(manifest.source.commit, /^[0-9a-f]{40}$/);
    for (const { name, tarball } of manifest.packages) {
      assert(tarball);
      assert.equal(sha256(readFileSync(join(packed, tarball.file))), `sha256:${tarball.sha256}`);
      const content = JSON.parse(fileOf(name));
      assert.equal(content.version, version);
      assert.equal(content.scripts, undefined);
      assert.match(content.license, /^(Apache-2\.0|SEE LICENSE IN licences\/README\.txt)$/);
      assert.deepEqual(content.engines, { node: ">=20" });
      assert.match(content.repository.url, /lanebox/);
    }
    const { os, cpu, libc } = JSON.parse(fileOf(PLATFORM));
    assert.deepEqual({ os, cpu, libc }, { os: ["linux"], cpu: ["x64"], libc: ["glibc"] });
    const client = JSON.parse(fileOf("lanebox"));
    assert.equal(client.optionalDependencies[PLATFORM], version);
    assert.equal(client.peerDependencies["@lanebox/image-debian-12"], version);
    assert.deepEqual(client.peerDependenciesMeta["@lanebox/image-debian-12"], { optional: true });
    const debian = manifest.inputs.packages["@lanebox/image-debian-12"]?.debianPackages;
    assert(Array.isArray(debian) && debian.some((line) => /^git 1:2\.\S+ amd64$/.test(line)));
  });

  test("have bills of materials of the helper and of each image", () => {
    const helper = JSON.parse(fileOf(PLATFORM, "sbom.cdx.json"));
    assert.equal(helper.bomFormat, "CycloneDX");
    const names = helper.components.map(({ name }: { name: string }) => name);
    for (const name of ["sandbox-host", "sandbox-init", "netstack", "tokio", "linux-source-6.1"]) {
      assert(names.includes(name), name);
    }
    for (const [short, some] of [
      ["image-debian-12", "git"],
      ["image-busybox", "busybox-static"],
    ] as const) {
      const image = JSON.parse(fileOf(`@lanebox/${short}`, "sbom.cdx.json"));
      const lock = fileOf(`@lanebox/${short}`, "packages.lock").split("\n");
      assert(image.components.some(({ name }: { name: string }) => name === some));
      assert.equal(
        image.components.length,
        lock.filter((line) => line !== "" && !line.startsWith("#")).length,
      );
    }
  });

  test("for macOS have a layout, a valid plist, and cannot be published without a helper", () => {
    const content = JSON.parse(fileOf("@lanebox/darwin-arm64"));
    assert.deepEqual([content.os, content.cpu], [["darwin"], ["arm64"]]);
    const complete = existsSync(join(artifacts, "darwin-arm64/artifact.json"));
    assert.equal(content.private, complete ? undefined : true);
    const client = JSON.parse(fileOf("lanebox"));
    assert.equal("@lanebox/darwin-arm64" in client.optionalDependencies, complete);
    const plist = fileOf("@lanebox/darwin-arm64", "entitlements.plist");
    const read =
      "import json, plistlib, sys; print(json.dumps(plistlib.loads(sys.stdin.buffer.read())))";
    const parsed = execFileSync("python3", ["-c", read], { input: plist, encoding: "utf8" });
    assert.deepEqual(JSON.parse(parsed), { "com.apple.security.hypervisor": true });
  });

  test("made twice have the same bytes", async () => {
    const again = newFolder();
    try {
      await packRelease(again, ["image-busybox", "lanebox"], ["--check-reproducible"]);
    } finally {
      rmSync(again, { recursive: true });
    }
  });

  for (const image of [DEBIAN, BUSYBOX]) {
    test(`run the README's first program on ${image}, from what is installed alone`, {
      skip: engineUnderTest() === "qemu" ? false : "the program leaves the engine to the machine",
    }, async () => {
      const program = readFileSync(join(checkout, "examples/first-program.mjs"), "utf8");
      assert(program.includes(DEBIAN));
      const stdout = await project.node(program.replace(DEBIAN, image));
      assert.match(stdout, /^Linux 6\.1/m);
      if (image === DEBIAN) assert.match(stdout, /^git version 2/m);
      assert.match(stdout, /^42$/m);
      assert.match(stdout, /exit code 0, isolation (emulated by qemu|hardware by krun)/);
    });
  }

  test("doctor --verify finds each file as released, and each one that is not", async () => {
    const good = await project.lanebox("doctor", "--verify");
    assert.equal(good.code, 0, good.stdout + good.stderr);
    assert.match(good.stdout, /^ok +lanebox: /m);
    const image = project.package("@lanebox/image-busybox");
    const file = join(project.package("lanebox"), "dist/index.js");
    const before = readFileSync(file);
    appendFileSync(file, "// changed\n");
    renameSync(image, `${image}.away`);
    try {
      const bad = await project.lanebox("doctor", "--verify", "--json");
      assert.equal(bad.code, 1);
      const report = JSON.parse(bad.stdout);
      const of = (name: string) =>
        report.packages.find((one: { name: string }) => one.name === name);
      assert.equal(of(PLATFORM).status, "ok");
      assert.equal(of("@lanebox/image-busybox").status, "not-installed");
      assert.equal(of("lanebox").status, "differs");
      assert.deepEqual(
        of("lanebox").wrong.map((one: { path: string; status: string }) => [one.path, one.status]),
        [["dist/index.js", "differs"]],
      );
    } finally {
      renameSync(`${image}.away`, image);
      writeFileSync(file, before);
    }
    // The manifest that lies beside the tarballs knows lanebox's own, too.
    const given = await project.lanebox(
      "doctor",
      "--verify",
      "--manifest",
      join(packed, "release.json"),
    );
    assert.equal(given.code, 0, given.stdout + given.stderr);
  });

  test("that are damaged or missing are errors with a remedy, before a VM is started", async () => {
    const run = () => project.lanebox("run", "--image", BUSYBOX, "--", "true");
    const folder = project.package(PLATFORM);
    const host = join(folder, "sandbox-host");
    const bytes = readFileSync(host);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    renameSync(host, `${host}.away`);
    writeFileSync(host, bytes, { mode: 0o755 });
    const damaged = await run();
    rmSync(host);
    renameSync(`${host}.away`, host);
    assert.equal(damaged.code, 125);
    assert.match(damaged.stderr, /sandbox-host is not the file.*\n.*install again/);

    chmodSync(folder, 0o777);
    const unsafe = await run();
    chmodSync(folder, 0o755);
    assert.equal(unsafe.code, 125);
    assert.match(unsafe.stderr, /linux-x64-gnu can be changed by anybody\n.*chmod go-w/);

    renameSync(folder, `${folder}.away`);
    const missing = await run();
    renameSync(`${folder}.away`, folder);
    assert.equal(missing.code, 125);
    assert.match(missing.stderr, /not installed\n.*npm install @lanebox\/linux-x64-gnu/);
    const image = await project.lanebox("run", "--image", "nosuch:1", "--", "true");
    assert.match(image.stderr, /npm install @lanebox\/image-nosuch-1/);
    const fine = await run();
    assert.equal(fine.code, 0, fine.stderr);
  });

  test("are found hoisted, nested and in the layout of pnpm", async () => {
    const layouts: Record<string, (root: string) => string> = {
      hoisted: (root) => {
        copyPackages(join(root, "node_modules"));
        const inner = join(root, "packages/app/node_modules");
        mkdirSync(inner, { recursive: true });
        renameSync(join(root, "node_modules/lanebox"), join(inner, "lanebox"));
        return join(inner, "lanebox");
      },
      nested: (root) => {
        copyPackages(join(root, "node_modules"));
        const own = join(root, "node_modules/lanebox/node_modules");
        mkdirSync(own);
        renameSync(join(root, "node_modules/@lanebox"), join(own, "@lanebox"));
        return join(root, "node_modules/lanebox");
      },
      pnpm: (root) => {
        // Each package in a folder of its own, with links to what it depends on beside it.
        copyPackages(join(root, "all"));
        const store = join(root, "node_modules/.pnpm");
        const link = (target: string, path: string) => {
          mkdirSync(dirname(path), { recursive: true });
          symlinkSync(relative(dirname(path), target), path);
        };
        const lanebox = join(store, "lanebox@0/node_modules");
        mkdirSync(lanebox, { recursive: true });
        renameSync(join(root, "all/lanebox"), join(lanebox, "lanebox"));
        for (const name of ["@lanebox/linux-x64-gnu", "@lanebox/image-busybox", ...own]) {
          const place = join(store, name.replace("/", "+"), "node_modules", name);
          mkdirSync(dirname(place), { recursive: true });
          renameSync(join(root, "all", name), place);
          link(place, join(lanebox, name));
          link(place, join(store, "node_modules", name));
        }
        link(join(lanebox, "lanebox"), join(root, "app/node_modules/lanebox"));
        return join(root, "app/node_modules/lanebox");
      },
    };
    const own = [
      "@bufbuild/protobuf",
      "@connectrpc/connect",
      "@connectrpc/connect-node",
      "detect-libc",
    ];
    const copyPackages = (to: string) => {
      for (const name of ["lanebox", "@lanebox/linux-x64-gnu", "@lanebox/image-busybox", ...own]) {
        cpSync(project.package(name), join(to, name), { recursive: true });
      }
    };
    for (const [layout, arrange] of Object.entries(layouts)) {
      const root = newFolder();
      try {
        const lanebox = arrange(root);
        const args = [join(lanebox, "dist/cli/main.js"), "doctor", "--verify", "--json"];
        const env = { ...process.env, LANEBOX_ARTIFACTS: "" };
        const { ok, packages } = JSON.parse(
          execFileSync(process.execPath, args, { env }).toString(),
        );
        const found = Object.fromEntries(
          packages.map(({ name, status }: Record<string, string>) => [name, status]),
        );
        assert.equal(found["@lanebox/image-busybox"], "ok", layout);
        assert(ok, layout);
      } finally {
        rmSync(root, { recursive: true });
      }
    }
  });

  test(`of ${AGENT} are packed, installed and have Node 24`, { skip: noAgent }, async () => {
    const folder = newFolder();
    const other = new Project();
    try {
      const agent = await packRelease(folder, ["image-debian-12-agent"]);
      const rest = manifest.packages.filter(({ name }) => name === "lanebox" || name === PLATFORM);
      const files = rest.map(({ tarball }) => join(packed, tarball?.file ?? ""));
      await other.install([...files, ...agent, ...deps]);
      const args = ["run", "--image", AGENT, "--memory", "1024", "--", "node", "-v"];
      const { code, stdout, stderr } = await other.lanebox(...args);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^v24\./);
    } finally {
      other.remove();
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the checks before packing", () => {
  test("refuse a helper that needs other libraries or a newer glibc, and programs that are not static", async () => {
    const url = pathToFileURL(join(checkout, "clients/typescript/scripts/release/checks.mjs")).href;
    const { checkProgram, checkInitramfs, needed, newestGlibc } = await import(url);
    const dynamic = " 0x0000000000000001 (NEEDED) Shared library: [libkrun.so.1]\n";
    assert.deepEqual(needed(dynamic), ["libkrun.so.1"]);
    assert.deepEqual(
      newestGlibc("Name: GLIBC_2.4 Flags\n Name: GLIBC_2.36\nName: GLIBC_2.9"),
      [2, 36],
    );
    assert.throws(() => checkProgram("/usr/bin/git", "0.1.0"), /needs .*libz\.so\.1/);
    const folder = newFolder();
    try {
      copyFileSync("/bin/true", join(folder, "init"));
      copyFileSync("/bin/true", join(folder, "e2fsck"));
      const archive = join(folder, "initramfs.cpio");
      execFileSync("cpio", ["--quiet", "--create", "--format=newc", "-F", archive], {
        cwd: folder,
        input: "init\ne2fsck\n",
      });
      assert.throws(() => checkInitramfs(archive), /init in .* is not static/);
      execFileSync("cpio", ["--quiet", "--create", "--format=newc", "-F", archive], {
        cwd: folder,
        input: "e2fsck\n",
      });
      assert.throws(() => checkInitramfs(archive), /has no init/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
