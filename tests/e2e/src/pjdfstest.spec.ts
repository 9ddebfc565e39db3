/**
 * The POSIX test suite pjdfstest, run by the guest's root on a mount of each kind. What fails is
 * named in docs/posix.md with the reason; anything else that fails, or passes unexpectedly, fails
 * here. scripts/test builds the suite and tells where it is.
 */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as promises from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fs, type Mount, rootfs, type Vm } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { boot, DEBIAN, shell } from "./support/lane.js";

const suite = process.env.LANEBOX_TEST_PJDFSTEST;

interface Named {
  /** A test's name, with `*` for anything. */
  pattern: RegExp;
  text: string;
}

/** The failures that the table of docs/posix.md names for a kind of mount. */
function namedFailures(kind: string): Named[] {
  const text = readFileSync(join(checkout, "docs/posix.md"), "utf8");
  return text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter(([, , kinds]) => kinds?.split(", ").includes(kind))
    .map(([, name = ""]) => {
      const text = name.replaceAll("`", "");
      return { text, pattern: new RegExp(`^${text.replaceAll("*", ".*")}$`) };
    });
}

const configuration = `[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
`;

describe("pjdfstest", {
  skip: suite ? false : "LANEBOX_TEST_PJDFSTEST is not set: scripts/test sets it",
}, () => {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-pjdfstest-"));
  const bound = join(folder, "bound");
  const passed = join(folder, "passed");
  let vm: Vm;

  before(async () => {
    await promises.mkdir(bound);
    await promises.mkdir(passed);
    const mounts: Record<string, Mount> = {
      "/mnt/suite": fs.bind({ source: dirname(suite ?? ""), access: "ro" }),
      "/mnt/memory": fs.virtual(fs.memory({ maxBytes: 64 * 1024 * 1024 }), { nosuid: false }),
      "/mnt/callbacks": fs.fromPromises(promises, { root: passed, nosuid: false }),
      "/mnt/bind-mount": fs.bind({ source: bound, access: "rw", nosuid: false }),
    };
    vm = await boot(
      { mounts },
      { rootfs: rootfs.builtIn(DEBIAN), resources: { cpus: 2, memoryMiB: 512 } },
    );
  });
  after(async () => {
    await vm?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  // The suite has a fault with directories whose names are of certain lengths, such as /mnt/bind.
  const places = {
    tmpfs: "/mnt/tmpfs",
    memory: "/mnt/memory",
    callbacks: "/mnt/callbacks",
    bind: "/mnt/bind-mount",
  };
  for (const [kind, place] of Object.entries(places)) {
    test(kind, async (t) => {
      if (kind === "tmpfs") await shell(vm, `mkdir ${place}`);
      await vm.exec("tee", ["/tmp/suite.toml"], { stdin: configuration });
      const line = `/mnt/suite/pjdfstest -c /tmp/suite.toml -p ${place} 2>&1`;
      const { stdout } = await vm.exec("sh", ["-c", line], { timeoutMs: 600_000 });
      const summary = /^Summary: .*$/m.exec(stdout)?.[0];
      assert.ok(summary, stdout.slice(-3000));
      t.diagnostic(`${kind}: ${summary}`);
      const failed = [...stdout.matchAll(/^(\S+)\s+FAILED$/gm)].map(([, name = ""]) => name);
      const named = namedFailures(kind);
      const surprising = failed.filter((name) => !named.some(({ pattern }) => pattern.test(name)));
      assert.deepEqual(surprising, [], stdout);
      const cured = named.filter(({ pattern }) => !failed.some((name) => pattern.test(name)));
      assert.deepEqual(
        cured.map(({ text }) => text),
        [],
        "docs/posix.md names what passes now",
      );
    });
  }
});
