/** Mounts of two lanes beside each other: masks, access, locks, and who hears of what. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fs, type Mount, SandboxError, type Vm } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { boot, shell } from "./support/lane.js";

const PROBE = "/mnt/tools/mount-probe";
/** The most mounts of a lane. */
const MOST = 16;

describe("mounts beside and inside each other", () => {
  const host = mkdtempSync(join(tmpdir(), "lanebox-mounts-"));
  const on = (path: string) => join(host, path);
  const put = (path: string, text: string) => {
    mkdirSync(dirname(on(path)), { recursive: true });
    writeFileSync(on(path), text);
  };
  const memory = fs.memory({ files: { watched: "one" } });
  let vm: Vm;
  let other: Vm;

  before(async () => {
    put("ro/file", "kept");
    put("ro/secret/key", "hidden");
    put("ro/deep/secret", "hidden");
    put("rw/file", "one");
    put("rw/watched", "one");
    put("rw/modules/of-host", "hidden");
    put("storage/modules/of-guest", "redirected");
    put("alone/file", "alone");
    put("shared/lock", "");
    mkdirSync(on("tools"));
    const probe = on("tools/mount-probe");
    const source = join(checkout, "tests/e2e/guest/mount-probe.c");
    execFileSync("cc", ["-O2", "-Wall", "-Werror", "-static", "-o", probe, source]);
    copyFileSync(probe, on("tools/set-id"));
    chmodSync(on("tools/set-id"), 0o4755);
    const tools = { source: on("tools"), access: "ro" } as const;
    const mask = { paths: ["modules"], storage: on("storage") };
    const shared = fs.bind({ source: on("shared"), access: "rw" });
    const masked = ["secret", "deep/secret"];
    vm = await boot({
      mounts: {
        // A child before its parent.
        "/mnt/nest/ro": fs.bind({ source: on("ro"), mask: { paths: masked } }),
        "/mnt/nest": shared,
        "/mnt/tools": fs.bind(tools),
        "/mnt/rw": fs.bind({ source: on("rw"), access: "rw", mask }),
        "/mnt/memory": memory,
      },
    });
    other = await boot({
      mounts: {
        "/mnt/shared": shared,
        "/mnt/same": memory,
        "/mnt/tools": fs.bind(tools),
        "/mnt/set-id": fs.bind({ ...tools, nosuid: false }),
        "/mnt/alone": fs.bind({ source: on("alone"), access: "rw", exclusive: true }),
      },
    });
  });
  after(async () => {
    await Promise.all([vm?.close(), other?.close()]);
    rmSync(host, { recursive: true, force: true });
  });

  /** Starts a probe and waits until it has made its marker; resolves to how it ends. */
  async function started(where: Vm, marker: string, ...args: string[]) {
    const ended = where.exec(PROBE, args);
    await shell(
      where,
      `i=0; until [ -e ${marker} ]; do i=$((i+1)); [ $i -lt 600 ] || exit 1; sleep 0.1; done`,
    );
    return { ended };
  }

  const refused = async (line: string, message: RegExp) => {
    const { exitCode, stderr } = await vm.exec("sh", ["-c", line]);
    assert.notEqual(exitCode, 0, line);
    assert.match(stderr, message, line);
  };

  test("a mount is inside another, whatever their order", async () => {
    assert.equal(await shell(vm, "cat /mnt/nest/ro/file"), "kept");
    assert.equal(await shell(vm, "ls -A /mnt/nest"), "lock\nro");
  });

  test("a seventeenth is refused before anything starts", async () => {
    const mounts: Record<string, Mount> = {};
    for (let i = 0; i <= MOST; i++) mounts[`/tmp/number/${i}`] = fs.memory();
    await assert.rejects(boot({ mounts }), (error) => {
      assert(error instanceof SandboxError);
      assert.equal(error.code, "invalid-argument");
      assert.match(error.message, /17 mounts, where 16 are the most/);
      return true;
    });
  });

  test("what a read-only mount masks is absent, by every way", async () => {
    assert.equal(await shell(vm, "cd /mnt/nest/ro; ls -A . deep | tr -d '\\n'"), ".:deepfiledeep:");
    await refused("cat /mnt/nest/ro/secret/key", /No such file/);
    await refused("cat /mnt/nest/ro/deep/secret", /No such file/);
    await refused("cat /mnt/nest/ro/deep/../secret/key", /No such file/);
  });

  test("what a writable mount masks is redirected, and nothing gets past by rename or link", async () => {
    assert.equal(await shell(vm, "ls /mnt/rw/modules"), "of-guest");
    await shell(vm, "echo new > /mnt/rw/modules/new && mkdir /mnt/rw/modules/d");
    assert.equal(readFileSync(on("storage/modules/new"), "utf8"), "new\n");
    assert.deepEqual(readdirSync(on("rw/modules")), ["of-host"]);
    const probe = `cd /mnt/rw; ${[
      "mv modules elsewhere",
      "mv file modules",
      "ln modules/new outside",
      "ln file modules/inside",
      "rm -r modules && mkdir modules",
      "ls -A modules",
      "cat modules/of-host",
    ].join("; ")}; true`;
    await shell(vm, probe);
    // Wherever things went, the host's own are as they were, and never in the guest.
    assert.equal(readFileSync(on("rw/modules/of-host"), "utf8"), "hidden");
    assert.deepEqual(readdirSync(on("rw/modules")), ["of-host"]);
    assert.equal(await shell(vm, "grep -rl hidden /mnt/rw || true"), "");
    assert.equal(await shell(vm, "cat /mnt/rw/modules/of-host 2>/dev/null || true"), "");
  });

  test("a guest root that remounts a read-only mount still cannot change it", async () => {
    const tried =
      "mount -o remount,rw /mnt/nest/ro; cd /mnt/nest/ro; grep ' /mnt/nest/ro ' /proc/mounts";
    assert.match(await shell(vm, `(${tried}) 2>&1 || true`), / rw,/);
    await refused("echo x > /mnt/nest/ro/file", /Read-only file system/);
    await refused("rm /mnt/nest/ro/file", /Read-only file system/);
    await refused("chmod 777 /mnt/nest/ro/file", /Read-only file system/);
    await refused("mkdir /mnt/nest/ro/new", /Read-only file system/);
    assert.deepEqual(readdirSync(on("ro")).sort(), ["deep", "file", "secret"]);
    assert.equal(readFileSync(on("ro/file"), "utf8"), "kept");
  });

  test("set-user-id works where the mount says so, and nowhere else", async () => {
    const identity = (mount: string) => shell(other, `${PROBE} identity 1000 /mnt/${mount}/set-id`);
    assert.equal(await identity("tools"), "1000");
    assert.equal(await identity("set-id"), "0");
  });

  test("an exclusive mount reads what it wrote, and the host has it after a sync", async () => {
    const line =
      "cd /mnt/alone; cat file; i=0; while [ $i -lt 50 ]; do echo $i >> many; i=$((i+1)); done; sync; tail -n 1 many";
    assert.equal(await shell(other, line), "alone49");
    const text = Array.from({ length: 50 }, (_, i) => `${i}\n`).join("");
    assert.equal(readFileSync(on("alone/many"), "utf8"), text);
  });

  test("inotify tells of what JavaScript writes, and of what the host changes in a directory", async () => {
    const inMemory = await started(vm, "/tmp/m1", "watch", "/mnt/memory/watched", "/tmp/m1");
    await memory.writeFile("/watched", "two");
    assert.equal((await inMemory.ended).stdout, "modified\n");
    const bound = await started(vm, "/tmp/m2", "watch", "/mnt/rw/watched", "/tmp/m2");
    writeFileSync(on("rw/watched"), "two");
    assert.equal((await bound.ended).stdout, "modified\n");
  });

  test("who has a file open sees what JavaScript writes over it, of the same size", async () => {
    await memory.writeFile("/open", "aaa");
    const reader = await started(vm, "/tmp/m3", "reread", "/mnt/memory/open", "/tmp/m3", "bbb");
    await memory.writeFile("/open", "bbb");
    assert.equal((await reader.ended).exitCode, 0);
  });

  test("flock holds between two lanes", async () => {
    const holder = await started(vm, "/tmp/m4", "lock", "/mnt/nest/lock", "/tmp/m4");
    const attempt = async () =>
      (await other.exec(PROBE, ["try-lock", "/mnt/shared/lock"])).exitCode;
    assert.equal(await attempt(), 1);
    await shell(vm, "rm /tmp/m4");
    assert.equal((await holder.ended).exitCode, 0);
    assert.equal(await attempt(), 0);
  });

  test("two lanes have one memory tree", async () => {
    for (let i = 0; i < 5; i++) {
      await shell(vm, `echo from-one-${i} > /mnt/memory/turn`);
      assert.equal(await shell(other, "cat /mnt/same/turn"), `from-one-${i}`);
      await shell(other, `echo from-two-${i} > /mnt/same/turn`);
      assert.equal(await shell(vm, "cat /mnt/memory/turn"), `from-two-${i}`);
    }
    await shell(other, "mv /mnt/same/turn /mnt/same/moved");
    assert.equal(await shell(vm, "ls /mnt/memory | grep -c turn || true"), "0");
    assert.equal(await shell(vm, "cat /mnt/memory/moved"), "from-two-4");
    const loop = (name: string) => `i=0; while [ $i -lt 30 ]; do mkdir ${name}$i; i=$((i+1)); done`;
    await Promise.all([
      shell(vm, `cd /mnt/memory && mkdir both && cd both && ${loop("one")}`),
      shell(
        other,
        `cd /mnt/same && until [ -d both ]; do sleep 0.1; done && cd both && ${loop("two")}`,
      ),
    ]);
    assert.equal((await memory.list("/both")).length, 60);
    assert(!existsSync(on("shared/both")));
  });
});
