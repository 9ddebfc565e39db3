/** Every feature of the guest kernel that images/kernel/features.tsv lists, proved inside a guest. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Vm } from "lanebox";
import { rootfs } from "lanebox";
import { checkout } from "./support/artifacts.js";
import { EXTENDED_ROOT, installInto } from "./support/debian-packages.js";
import { boot, DEBIAN } from "./support/lane.js";

interface Feature {
  name: string;
  needs: string[];
  check: string;
}

const features: Feature[] = readFileSync(join(checkout, "images/kernel/features.tsv"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => {
    const [name, needs, , check] = line.split("\t");
    assert.ok(name && needs && check, line);
    return { name, needs: needs.split(" "), check };
  });

const inBusybox = features.filter(({ needs }) => needs.join() === "busybox");
const inDebian = features.filter(({ needs }) => needs.join() !== "busybox");

/** Text as one word of a shell line. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A shell line that runs another with the extended root as its root: not by chroot, where user namespaces are forbidden. */
function inExtendedRoot(line: string): string {
  const enter = `cd ${EXTENDED_ROOT} && pivot_root . mnt && cd / && exec sh -c "$0"`;
  return `exec unshare -m sh -ec '${enter}' ${quoted(line)}`;
}

/** A shell line that runs a check in namespaces of its own, in an empty folder on a fresh tmpfs. */
function isolated(check: string): string {
  return `mkdir -p /tmp/check && exec unshare -m -n sh -ec 'mount -t tmpfs check /tmp/check && cd /tmp/check && sh -ec "$0"' ${quoted(check)}`;
}

describe("kernel features, in busybox", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot();
  });
  after(() => vm?.close());
  for (const { name, check } of inBusybox) {
    test(name, async () => {
      const result = await vm.exec("sh", ["-c", isolated(check)], { timeoutMs: 60_000 });
      assert.equal(result.exitCode, 0, `${check}\n${result.stdout}${result.stderr}`);
    });
  }
});

describe("kernel features, with Debian's tools", () => {
  let vm: Vm;
  let missing: string | undefined;
  before(async () => {
    const resources = { cpus: 2, memoryMiB: 1024 };
    vm = await boot({}, { rootfs: rootfs.builtIn(DEBIAN), resources });
    const names = new Set(inDebian.flatMap(({ needs }) => needs));
    names.delete("perl");
    missing = await installInto(vm, [...names]);
  });
  after(() => vm?.close());
  for (const { name, needs, check } of inDebian) {
    test(name, async (t) => {
      const bare = needs.join() === "perl";
      if (missing !== undefined && !bare) return t.skip(missing);
      const line = bare ? isolated(check) : inExtendedRoot(isolated(check));
      const result = await vm.exec("sh", ["-c", line], { timeoutMs: 120_000 });
      assert.equal(result.exitCode, 0, `${check}\n${result.stdout}${result.stderr}`);
      return undefined;
    });
  }
});
