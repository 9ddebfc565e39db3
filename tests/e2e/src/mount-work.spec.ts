/** Real work inside mounts: what a coding agent does in a lane, on a mount of each kind. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fs, rootfs, type Vm } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { EXTENDED_ROOT, installInto } from "./support/debian-packages.js";
import { boot, DEBIAN, shell } from "./support/lane.js";

const MANY = 100_000;
const semantics = ["mmap", "append", "temporary", "sparse", "names", "unlinked", "locks"];
const manyNames = Array.from({ length: MANY }, (_, i) => `file-${String(i).padStart(6, "0")}`);

/** Packages as npm packs them: one with a program in it, one that needs the other. */
function packPackages(folder: string): string[] {
  const packages = {
    greet: { "index.js": 'module.exports = (who) => "hello, " + who;' },
    "greet-cli": {
      "cli.js": '#!/usr/bin/env node\nconsole.log(require("greet")(process.argv[2]));\n',
    },
  };
  for (const [name, files] of Object.entries(packages)) {
    mkdirSync(join(folder, name), { recursive: true });
    const cli = name === "greet-cli" ? { bin: "cli.js", dependencies: { greet: "1.0.0" } } : {};
    const manifest = { name, version: "1.0.0", main: "index.js", ...cli };
    writeFileSync(join(folder, name, "package.json"), JSON.stringify(manifest));
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, file), text);
    execFileSync("npm", ["pack", "--silent", `./${name}`], { cwd: folder });
  }
  return readdirSync(folder).filter((name) => name.endsWith(".tgz"));
}

describe("work in mounts", () => {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-work-"));
  const bound = join(folder, "bound");
  const tools = join(folder, "tools");
  const memory = fs.memory({ maxBytes: 512 * 1024 * 1024 });
  const node = dirname(dirname(realpathSync(process.execPath)));
  let archives: string[] = [];
  let vm: Vm;
  let missing: string | undefined;

  before(async () => {
    mkdirSync(bound);
    mkdirSync(tools);
    archives = packPackages(tools);
    const source = join(checkout, "tests/e2e/guest/file-semantics.c");
    execFileSync("cc", ["-O2", "-static", "-o", join(tools, "file-semantics"), source]);
    const mounts = {
      "/mnt/node": fs.bind({ source: node, access: "ro" }),
      "/mnt/tools": fs.bind({ source: tools, access: "ro" }),
      "/mnt/bind": fs.bind({ source: bound, access: "rw" }),
      "/mnt/memory": memory,
    };
    const resources = { cpus: 2, memoryMiB: 1024 };
    vm = await boot({ mounts }, { rootfs: rootfs.builtIn(DEBIAN), resources });
    missing = await installInto(vm, ["make"]);
    await shell(
      vm,
      `mkdir /tmp/origin && cd /tmp/origin && git init -q -b main && git config user.email t@example.org && git config user.name t &&
       i=0; while [ $i -lt 300 ]; do mkdir -p d$((i % 20)); echo "line $i" > d$((i % 20))/f$i; i=$((i+1)); done;
       printf '#!/bin/sh\\necho it runs\\n' > run.sh; chmod 755 run.sh; ln -s run.sh link; git add -A && git commit -qm all`,
    );
  });
  after(async () => {
    await vm?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const kind of ["bind", "memory"]) {
    const base = `/mnt/${kind}`;

    test(`${kind}: git clones, and the status is clean afterwards`, async () => {
      await shell(vm, `git clone -q file:///tmp/origin ${base}/clone`);
      assert.equal(await shell(vm, `cd ${base}/clone && git status --porcelain && git fsck`), "");
      await shell(
        vm,
        `cd ${base}/clone && echo more >> d1/f1 && git -c user.name=t -c user.email=t@example.org commit -qam more`,
      );
      assert.equal(await shell(vm, `cd ${base}/clone && git status --porcelain`), "");
    });

    test(`${kind}: a script runs by its x bit, also through a link`, async () => {
      assert.equal(await shell(vm, `cd ${base}/clone && ./run.sh && ./link`), "it runs\nit runs");
      await shell(vm, `cd ${base}/clone && chmod 644 run.sh`);
      assert.equal((await vm.exec(`${base}/clone/run.sh`)).exitCode, 126);
    });

    test(`${kind}: a program that runs is neither written nor cut off`, async () => {
      const line = `cd ${base} && cp /usr/bin/sleep . && ./sleep 60 & pid=$!
        until [ "$(readlink /proc/$pid/exe)" = ${base}/sleep ]; do kill -0 $pid || exit 1; done
        cd ${base}; (: > sleep) 2>&1; (echo more >> sleep) 2>&1; cmp sleep /usr/bin/sleep && kill $pid`;
      assert.match(await shell(vm, line), /^.*Text file busy\n.*Text file busy$/);
    });

    test(`${kind}: npm installs packages and their program runs`, async () => {
      const packed = archives.map((name) => `/mnt/tools/${name}`).join(" ");
      const env = {
        PATH: "/mnt/node/bin:/usr/bin:/bin",
        npm_config_cache: "/tmp/npm",
        HOME: "/tmp",
      };
      const line = `mkdir ${base}/project && cd ${base}/project && npm install --offline --no-audit --no-fund ${packed} >&2 && ./node_modules/.bin/greet-cli world`;
      const result = await vm.exec("sh", ["-c", line], { env, timeoutMs: 240_000 });
      assert.equal(result.stdout, "hello, world\n", result.stderr);
    });

    test(`${kind}: make believes the times`, async (t) => {
      if (missing !== undefined) return t.skip(missing);
      const rules = "out: in\\n\\tcp in out && echo made >> count\\n";
      const make = `${EXTENDED_ROOT}/usr/bin/make -s`;
      const line = `mkdir ${base}/made && cd ${base}/made && printf '${rules}' > Makefile && echo 1 > in && ${make} && ${make} && touch -d '+2 seconds' in && ${make}; cat count`;
      assert.equal(await shell(vm, line), "made\nmade");
      return undefined;
    });

    for (const name of semantics) {
      test(`${kind}: ${name}`, async () => {
        const directory = `${base}/semantics-${name}`;
        await shell(vm, `mkdir ${directory} && /mnt/tools/file-semantics ${directory} ${name}`);
      });
    }

    test(`${kind}: a directory of 100,000 files is listed whole`, async () => {
      if (kind === "bind") {
        mkdirSync(join(bound, "many"));
        for (const name of manyNames) writeFileSync(join(bound, "many", name), "");
      } else {
        await memory.mkdir("/many");
        for (const name of manyNames) await memory.writeFile(`/many/${name}`, "");
      }
      await shell(vm, `/mnt/tools/file-semantics ${base} many`);
    });
  }

  test("what the guest made belongs to this user on the host", () => {
    assert.ok(readdirSync(join(bound, "clone")).includes("run.sh"));
    execFileSync("find", [
      bound,
      "!",
      "-user",
      String(process.getuid?.()),
      "-exec",
      "false",
      "{}",
      "+",
    ]);
  });
});
