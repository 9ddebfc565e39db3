/** `spawn` in a running lane: what api.md promises under "Processes". One lane serves most tests. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SandboxError, type SpawnedProcess, type Vm } from "lanebox";
import { boot, shell } from "./support/lane.js";
import { engines, helpers, memoryKiB } from "./support/processes.js";
import { all, Reading } from "./support/streams.js";

const MIB = 1024 * 1024;
/** A full GiB takes minutes under emulation; LANEBOX_TEST_LARGE_MIB=1024 asks for it. */
const LARGE = Number(process.env.LANEBOX_TEST_LARGE_MIB ?? 8) * MIB;

const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

describe("spawn", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot({ env: { LANE: "one" }, cwd: "/usr" });
  });
  after(async () => {
    await vm?.close();
    assert.deepEqual(unhandled, []);
  });

  const sh = (line: string, options = {}): SpawnedProcess => vm.spawn("sh", ["-c", line], options);

  /** Whether nobody is left of a process's group. */
  async function isGone(process: SpawnedProcess): Promise<boolean> {
    return (await vm.exec("kill", ["-0", "--", `-${process.pid}`])).exitCode !== 0;
  }

  test("streams go both ways while the process runs", async () => {
    const cat = vm.spawn("cat");
    await cat.ready;
    assert.ok((cat.pid ?? 0) > 1);
    const writer = cat.stdin.getWriter();
    const out = new Reading(cat.stdout);
    await writer.write("one\n");
    await out.until("one\n");
    await writer.write(Buffer.from("zwei ü\n"));
    await out.until("zwei ü\n");
    await writer.close();
    assert.deepEqual(await cat.exit, { exitCode: 0, signal: null });
    assert.equal(await out.end(), "");
    assert.equal(await all(cat.stderr), "");
  });

  test("stdout and stderr are two streams, and exit tells the status", async () => {
    const process = sh("echo out; echo err >&2; exit 7");
    const [out, err, exit] = await Promise.all([
      all(process.stdout),
      all(process.stderr),
      process.exit,
    ]);
    assert.deepEqual([out, err, exit], ["out\n", "err\n", { exitCode: 7, signal: null }]);
  });

  test("takes cwd, env, user, limits and noNewPrivileges", async () => {
    const process = sh("pwd; echo $LANE $A; id -u; ulimit -n; grep NoNewPrivs /proc/self/status", {
      cwd: "/tmp",
      env: { A: "b", LANE: undefined },
      user: "user",
      limits: { nofile: 99, core: { soft: 0, hard: "unlimited" } },
      noNewPrivileges: true,
    });
    assert.equal(await all(process.stdout), "/tmp\none b\n1000\n99\nNoNewPrivs:\t1\n");
  });

  test("a start that fails rejects ready, resolves exit with the shell's status, and harms nobody", async () => {
    assert.deepEqual(await vm.spawn("no-such-command").exit, { exitCode: 127, signal: null });
    assert.deepEqual(await vm.spawn("/etc/passwd").exit, { exitCode: 126, signal: null });
    assert.deepEqual(await vm.spawn("true", [], { cwd: "/no/such" }).exit, {
      exitCode: 125,
      signal: null,
    });
    const missing = vm.spawn("no-such-command");
    await assert.rejects(missing.ready, { code: "command-not-found", errno: "ENOENT" });
    await assert.rejects(all(missing.stdout), { code: "command-not-found" });
    assert.equal(await missing.kill().catch((error) => error.code), "command-not-found");
  });

  test("an aborted signal throws at the call and starts nothing", async () => {
    const file = "/tmp/was-started";
    assert.throws(() => sh(`touch ${file}`, { signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
    assert.equal((await vm.exec("test", ["-e", file])).exitCode, 1);
  });

  test("abort in the middle of output ends the group; exit tells how", async () => {
    const abort = new AbortController();
    const process = sh("yes & yes", { signal: abort.signal });
    const out = new Reading(process.stdout);
    await out.until("y\n");
    abort.abort();
    await assert.rejects(out.end(), { name: "AbortError" });
    assert.deepEqual(await process.exit, { exitCode: null, signal: "SIGTERM" });
    assert.ok(await isGone(process));
  });

  test("abort kills what ignores SIGTERM", async () => {
    const abort = new AbortController();
    const process = sh("trap '' TERM; echo up; while :; do sleep 0.1; done", {
      signal: abort.signal,
    });
    await new Reading(process.stdout).until("up");
    abort.abort();
    assert.deepEqual(await process.exit, { exitCode: null, signal: "SIGKILL" });
  });

  test("writes after the exit reject, also those under way", async () => {
    const process = vm.spawn("sleep", ["600"]);
    const writer = process.stdin.getWriter();
    await process.ready;
    const large = writer.write(new Uint8Array(8 * MIB));
    await process.kill("SIGKILL");
    assert.deepEqual(await process.exit, { exitCode: null, signal: "SIGKILL" });
    await assert.rejects(large, { code: "not-found", errno: "EPIPE" });
    await assert.rejects(writer.write("more"), { code: "not-found", errno: "EPIPE" });
    assert.equal(await process.kill(), false);
  });

  test("kill takes every signal name and reaches the group", async () => {
    for (const name of ["SIGHUP", "SIGUSR2", "SIGSEGV", "SIGRTMIN+1", "SIGPOLL"]) {
      const process = sh("sleep 600 & sleep 600");
      assert.equal(await process.kill(name), true);
      const { exitCode, signal } = await process.exit;
      assert.deepEqual([exitCode, signal], [null, name === "SIGPOLL" ? "SIGIO" : name]);
      assert.ok(await isGone(process));
    }
    const process = vm.spawn("sleep", ["600"]);
    for (const wrong of ["TERM", "SIGNOTHING", "sigterm", "9"]) {
      await assert.rejects(async () => process.kill(wrong), { code: "invalid-argument" }, wrong);
    }
    await process.kill("SIGKILL");
  });

  test("a death by SIGSEGV and by the OOM killer is told, and the lane goes on", async () => {
    const fault = await sh("kill -SEGV $$").exit;
    assert.deepEqual(fault, { exitCode: null, signal: "SIGSEGV" });
    const hungry = sh("exec tail /dev/zero");
    assert.deepEqual(await hungry.exit, { exitCode: null, signal: "SIGKILL" });
    assert.equal(await shell(vm, "echo alive"), "alive");
  });

  test("a timeout ends what ignores SIGTERM, and does not wait for a descendant in another session", async () => {
    const stubborn = sh("trap '' TERM; while :; do sleep 0.1; done", { timeoutMs: 300 });
    assert.deepEqual(await stubborn.exit, { exitCode: null, signal: "SIGKILL" });
    const escaped = sh("setsid sleep 600 & wait", { timeoutMs: 300 });
    assert.equal((await escaped.exit).signal, "SIGTERM");
  });

  test("output that nobody reads stops the process; kill and exit work all the same", async () => {
    const [helper] = helpers();
    assert.ok(helper);
    const before = memoryKiB(helper.pid);
    const process = vm.spawn("yes");
    await process.ready;
    const written = async () =>
      Number(await shell(vm, `grep ^wchar /proc/${process.pid}/io | cut -d' ' -f2`));
    let last = -1;
    for (let now = await written(); now !== last; now = await written()) {
      last = now;
      assert.ok(last < 8 * MIB, `${last} bytes were written`);
      await sleep(300);
    }
    assert.ok(memoryKiB(helper.pid) - before < 8 * 1024);
    assert.equal(await process.kill("SIGKILL"), true);
    assert.deepEqual(await process.exit, { exitCode: null, signal: "SIGKILL" });
  });

  test("much output that is read late comes whole and in order", async () => {
    const lines = LARGE / 16;
    const process = sh(
      `i=0; while [ $i -lt ${lines / 65536} ]; do printf '%015d\\n' $i | head -c 16; dd if=/dev/zero bs=1048560 count=1 2>/dev/null; i=$((i+1)); done`,
    );
    await sleep(300);
    const [helper] = helpers();
    assert.ok(helper);
    const before = memoryKiB(helper.pid);
    const hash = createHash("sha256");
    let length = 0;
    for await (const piece of process.stdout) {
      hash.update(piece);
      length += piece.length;
    }
    const wanted = createHash("sha256");
    for (let n = 0; n < lines / 65536; n++) {
      wanted.update(`${String(n).padStart(15, "0")}\n`).update(Buffer.alloc(1048560));
    }
    assert.equal(length, LARGE);
    assert.equal(hash.digest("hex"), wanted.digest("hex"));
    assert.ok(memoryKiB(helper.pid) - before < 8 * 1024);
    assert.equal((await process.exit).exitCode, 0);
  });

  test("much input arrives whole", async () => {
    const process = vm.spawn("sha256sum");
    const writer = process.stdin.getWriter();
    const hash = createHash("sha256");
    const piece = Buffer.alloc(256 * 1024);
    for (let sent = 0; sent < LARGE; sent += piece.length) {
      const bytes = Buffer.from(piece.fill(sent / piece.length));
      hash.update(bytes);
      await writer.write(bytes);
    }
    await writer.close();
    assert.equal((await all(process.stdout)).slice(0, 64), hash.digest("hex"));
  });

  test("a full stdin makes writes wait and hinders neither kill nor others", async () => {
    const process = vm.spawn("sleep", ["600"]);
    const writer = process.stdin.getWriter();
    let written = 0;
    const filling = (async () => {
      for (;;) {
        await writer.write(new Uint8Array(64 * 1024));
        written += 64 * 1024;
      }
    })().catch(() => undefined);
    await process.ready;
    await sleep(500);
    const before = written;
    assert.equal(await shell(vm, "echo alive"), "alive");
    assert.equal(written, before);
    assert.ok(written < 8 * MIB, `${written} bytes were taken`);
    await process.kill("SIGKILL");
    await filling;
    assert.equal((await process.exit).signal, "SIGKILL");
  });

  test("of many streams a slow reader stops only its own process", async () => {
    const slow = Array.from({ length: 8 }, () => sh("yes"));
    const fast = Array.from({ length: 56 }, (_, n) => sh(`seq ${n} ${n + 2000}`));
    const outputs = await Promise.all(fast.map((process) => all(process.stdout)));
    outputs.forEach((text, n) => {
      assert.equal(text.split("\n").length, 2002);
      assert.ok(text.startsWith(`${n}\n`));
    });
    await Promise.all(slow.map((process) => process.kill("SIGKILL")));
    for (const process of slow) assert.equal((await process.exit).signal, "SIGKILL");
  });

  test("an invalid option throws at the call, by name", () => {
    const bad: [unknown, RegExp][] = [
      [{ cwd: "relative" }, /cwd/],
      [{ stdin: "x" }, /stdin/],
      [{ limits: { files: 5 } }, /limits\.files/],
      [{ limits: { nofile: -1 } }, /limits\.nofile/],
      [{ limits: { nofile: { soft: 9, hard: 8 } } }, /limits\.nofile/],
      [{ noNewPrivileges: 1 }, /noNewPrivileges/],
      [{ signal: 5 }, /signal/],
    ];
    for (const [options, named] of bad) {
      assert.throws(
        () => vm.spawn("true", [], options as never),
        (error) =>
          error instanceof SandboxError &&
          error.code === "invalid-argument" &&
          named.test(error.message),
        JSON.stringify(options),
      );
    }
    assert.throws(() => vm.spawn(""), { code: "invalid-argument" });
  });
});

describe("spawn, when the lane goes", () => {
  test("killing the helper ends every stream and exit with sandbox-exited", async () => {
    const vm = await boot();
    const all10 = Array.from({ length: 10 }, () => vm.spawn("sh", ["-c", "echo up; exec cat"]));
    for (const process of all10) await process.ready;
    for (const helper of helpers()) process.kill(helper.pid, "SIGKILL");
    for (const process of all10) {
      await assert.rejects(all(process.stdout), { code: "sandbox-exited" });
      await assert.rejects(process.exit, { code: "sandbox-exited" });
    }
    assert.equal((await vm.closed).reason, "helper-exited");
    await vm.close();
    assert.equal(engines().length, 0);
  });

  test("close ends processes with sandbox-closed", async () => {
    const vm = await boot();
    const process = vm.spawn("cat");
    await process.ready;
    const closing = vm.close();
    await assert.rejects(process.exit, { code: "sandbox-closed" });
    await closing;
    const late = vm.spawn("true");
    await assert.rejects(late.exit, { code: "sandbox-closed" });
    assert.deepEqual(unhandled, []);
  });
});
