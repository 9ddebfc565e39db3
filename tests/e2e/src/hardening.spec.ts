/**
 * What root in the guest can do to the control channel: end its own VM, and nothing else. The guest can
 * only answer what the host asked; what it answers wrongly ends the call (sandbox-host's own tests).
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SandboxError, type Vm } from "lanebox";
import { boot, shell } from "./support/lane.js";
import { helpers } from "./support/processes.js";

describe("root in the guest", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot();
  });
  after(() => vm?.close());

  test("runs in the workload's own cgroup, with three descriptors and no privilege taken away", async () => {
    assert.equal(await shell(vm, "cat /proc/self/cgroup"), "0::/workload");
    // The fourth is the folder that ls reads.
    assert.equal((await vm.exec("ls", ["/proc/self/fd"])).stdout, "0\n1\n2\n3\n");
    assert.match(await shell(vm, "grep NoNewPrivs /proc/self/status"), /0$/);
  });

  test("cannot open the control port a second time", async () => {
    const port = await shell(vm, "grep -lx lanebox.control /sys/class/virtio-ports/*/name");
    const device = `/dev/${port.split("/").at(-2)}`;
    const opened = await vm.exec("sh", ["-c", `exec 5<>${device}`]);
    assert.notEqual(opened.exitCode, 0);
    assert.match(opened.stderr, /busy/i);
  });

  test("gets no hold of init's descriptors, and cannot kill it", async () => {
    const copied = await vm.exec("sh", [
      "-c",
      "for fd in /proc/1/fd/*; do case $(readlink $fd) in *vport*) exec 5<>$fd && echo open;; esac; done",
    ]);
    assert.doesNotMatch(copied.stdout, /open/);
    await vm.exec("sh", ["-c", "kill -KILL 1; kill -SEGV 1; kill -STOP 1; true"]);
    assert.equal(await shell(vm, "echo alive"), "alive");
  });

  test("that overwrites init's memory ends its own VM and no more", async () => {
    const victim = await boot();
    const own = helpers().length;
    assert.equal(own, 2);
    // All of init's code, in its own memory.
    const line = `a=$(grep -m1 r-xp /proc/1/maps | cut -d- -f1); dd if=/dev/urandom of=/proc/1/mem bs=4096 seek=$((0x$a / 4096)) count=256 conv=notrunc`;
    const attack = await victim.exec("sh", ["-c", line]).catch((error) => error);
    const next = await victim.exec("true").catch((error) => error);
    for (const result of [attack, next]) {
      assert.ok(!(result instanceof Error) || result instanceof SandboxError, String(result));
    }
    assert.ok(next instanceof SandboxError, "init goes on without its code");
    await victim.close();
    const { reason } = await victim.closed;
    assert.match(reason, /^(guest-|engine-failed|killed|closed)/);
    // The other lane has noticed nothing.
    assert.equal(await shell(vm, "echo alive"), "alive");
    assert.equal(helpers().length, 1);
  });
});
