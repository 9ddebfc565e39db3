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

/** The failures that docs/posix.md names for a kind of mount, in its tables. */
function namedFailures(kind: string): string[] {
  const text = readFileSync(join(checkout, "docs/posix.md"), "utf8");
  const rows = text.split("\n").filter((line) => line.startsWith("| `"));
  return rows
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter(([, , kinds]) => kinds?.split(", ").includes(kind))
    .map(([, name]) => (name ?? "").replaceAll("`", ""));
}

function configuration(kind: string): string {
  const failures = namedFailures(kind)
    .map((name) => `"${name}"`)
    .join(", ");
  return `[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
expected_failures = [${failures}]
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
`;
}

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
      "/mnt/bind": fs.bind({ source: bound, access: "rw", nosuid: false }),
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

  for (const kind of ["tmpfs", "memory", "callbacks", "bind"]) {
    test(kind, async (t) => {
      if (kind === "tmpfs") await shell(vm, "mkdir /mnt/tmpfs");
      await shell(vm, `cat > /tmp/${kind}.toml <<'END'\n${configuration(kind)}END`);
      const line = `/mnt/suite/pjdfstest -c /tmp/${kind}.toml -p /mnt/${kind} 2>&1`;
      const result = await vm.exec("sh", ["-c", line], { timeoutMs: 300_000 });
      const summary = result.stdout.split("\n").find((text) => text.includes("Summary"));
      t.diagnostic(`${kind}: ${summary}`);
      const wrong = result.stdout.split("\n").filter((text) => /FAILED|UNEXPECTEDLY/.test(text));
      assert.equal(result.exitCode, 0, `${wrong.join("\n")}\n${result.stdout.slice(-3000)}`);
      assert.ok(summary, result.stdout.slice(-3000));
    });
  }
});
