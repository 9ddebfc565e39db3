/** What happens when a part of the chain dies, and when the guest misbehaves. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SandboxError, type Vm } from "lanebox";
import { boot, engineUnderTest, shell } from "./support/lane.js";
import { descendants, engines, eventually, helpers, hostProcesses } from "./support/processes.js";

/** Kills a process and tells whether it and all that it had started, then or since, is gone in 5 s. */
async function killTree(pid: number, signal: NodeJS.Signals): Promise<string[]> {
  const tracked = new Set([pid, ...descendants(pid).map((p) => p.pid)]);
  process.kill(pid, signal);
  const alive = () => {
    const all = hostProcesses().filter((p) => p.state !== "Z");
    for (const candidate of all) if (tracked.has(candidate.parent)) tracked.add(candidate.pid);
    return all.filter((p) => tracked.has(p.pid));
  };
  await eventually(() => alive().length === 0, 5000);
  return alive().map((p) => `${p.pid} ${p.name}`);
}

function startOwner() {
  const owner = spawn(
    process.execPath,
    [fileURLToPath(new URL("./support/owner.js", import.meta.url))],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let said = "";
  owner.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const pid = owner.pid;
  assert.ok(pid);
  return { pid, says: (word: string) => eventually(() => said.includes(word), 60_000) };
}

describe("the program that owns a lane is killed", () => {
  test("while the lane runs: helper and engine are gone within 5 s", async () => {
    const owner = startOwner();
    assert.ok(await owner.says("booted"));
    assert.equal(helpers(owner.pid).length, 1);
    assert.deepEqual(await killTree(owner.pid, "SIGKILL"), []);
  });

  test("during the boot, at several moments: the same", async () => {
    for (const ms of [10, 60, 150, 300, 500, 800]) {
      const owner = startOwner();
      assert.ok(await owner.says("booting"));
      await sleep(ms);
      assert.deepEqual(await killTree(owner.pid, "SIGKILL"), [], `after ${ms} ms`);
    }
  });
});

describe("a part of the chain is killed", () => {
  const pendingAndClose = async (vm: Vm, kill: () => void, reason: string) => {
    const pending = [
      vm.exec("sleep", ["600"]),
      vm.exec("cat", [], { stdin: new ReadableStream({}) }),
    ];
    for (const call of pending) call.catch(() => {});
    await sleep(500);
    kill();
    for (const call of pending) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof SandboxError, String(error));
        assert.equal(error.code, "sandbox-exited");
        return true;
      });
    }
    await assert.rejects(vm.exec("true"), { code: "sandbox-exited" });
    assert.equal((await vm.closed).reason, reason);
    await vm.close();
    await vm.close();
    assert.ok(await eventually(() => descendants(process.pid).length === 0));
  };

  test("the helper: pending calls reject with sandbox-exited, close resolves", async () => {
    const vm = await boot();
    const [helper] = helpers();
    assert.ok(helper);
    await pendingAndClose(vm, () => process.kill(helper.pid, "SIGKILL"), "helper-exited");
    assert.equal((await vm.closed).signal, "SIGKILL");
  });

  const within = engineUnderTest() === "krun" && "krun runs inside the helper and ends with it";
  test("the engine: the same", { skip: within }, async () => {
    const vm = await boot();
    const [engine] = engines();
    assert.ok(engine);
    await pendingAndClose(vm, () => process.kill(engine.pid, "SIGKILL"), "engine-failed");
  });

  test("the guest's kernel: the reason and the console's last lines are told", async () => {
    const vm = await boot();
    const dying = vm.exec("sh", [
      "-c",
      "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger",
    ]);
    await assert.rejects(dying, (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "sandbox-exited");
      assert.match(error.message, /Kernel panic/);
      return true;
    });
    assert.equal((await vm.closed).reason, "guest-panicked");
    await vm.close();
    assert.deepEqual(descendants(process.pid), []);
  });

  test("the guest resets itself", async () => {
    const vm = await boot();
    await assert.rejects(vm.exec("reboot", ["-f"]), { code: "sandbox-exited" });
    assert.equal((await vm.closed).reason, "guest-stopped");
    await vm.close();
  });
});

describe("a guest that misbehaves", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot({}, { resources: { cpus: 2, memoryMiB: 256 } });
  });
  after(() => vm?.close());

  test("memory exhausted: the hog dies, the lane lives", async () => {
    const hog = await vm.exec("tail", ["/dev/zero"]);
    assert.deepEqual([hog.exitCode, hog.signal], [137, "SIGKILL"]);
    assert.equal((await vm.exec("echo", ["alive"])).stdout, "alive\n");
  });

  test("endless loops on all CPUs: other commands run", async () => {
    await shell(vm, "for i in 1 2 3 4; do (while :; do :; done) </dev/null >/dev/null 2>&1 & done");
    assert.equal((await vm.exec("echo", ["alive"])).stdout, "alive\n");
  });

  test("a fork bomb on top: close ends it all within its bound", async () => {
    const bomb = vm.exec("sh", ["-c", "bomb() { bomb | bomb & }; bomb; sleep 600"]);
    bomb.catch(() => {});
    await sleep(2000);
    await vm.close();
    const { reason } = await vm.closed;
    assert.ok(reason === "closed" || reason === "killed", reason);
    assert.deepEqual(descendants(process.pid), []);
  });
});
