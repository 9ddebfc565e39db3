/** `exec` in a running lane: what api.md promises under "Processes". One lane serves all tests. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SandboxError, type Vm } from "lanebox";
import { boot, shell } from "./support/lane.js";
import { helpers, memoryKiB } from "./support/processes.js";

describe("exec", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot({ env: { LANE: "one", DROPPED: undefined }, cwd: "/usr" });
  });
  after(() => vm?.close());

  test("gives exit code, stdout and stderr", async () => {
    const result = await vm.exec("sh", ["-c", "echo out; echo err >&2; exit 3"]);
    assert.deepEqual(result, {
      exitCode: 3,
      signal: null,
      stdout: "out\n",
      stderr: "err\n",
      truncated: false,
    });
  });

  test("passes arguments untouched", async () => {
    const args = ["a b", "", "$HOME", "'\"\\", "é漢字🙂", "-n", "line\nbreak"];
    const result = await vm.exec("printf", ["%s\\0", ...args]);
    assert.deepEqual(result.stdout.split("\0").slice(0, -1), args);
  });

  test("uses the lane's cwd unless the call names one", async () => {
    assert.equal((await vm.exec("pwd")).stdout, "/usr\n");
    assert.equal((await vm.exec("pwd", [], { cwd: "/tmp" })).stdout, "/tmp\n");
  });

  test("rejects a cwd that does not exist, naming it", async () => {
    await assert.rejects(vm.exec("pwd", [], { cwd: "/no/such" }), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "process-not-started");
      assert.equal(error.errno, "ENOENT");
      assert.match(error.message, /\/no\/such/);
      return true;
    });
  });

  test("has a sane environment and nothing of ours in it", async () => {
    const { stdout } = await vm.exec("env");
    const names = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split("=")[0]);
    assert.ok(names.includes("PATH"));
    assert.ok(names.includes("HOME"));
    assert.match(stdout, /^LANE=one$/m);
    assert.ok(!names.includes("DROPPED"));
    assert.ok(!names.some((name) => /lanebox|sandbox/i.test(name ?? "")), stdout);
  });

  test("takes env values that are undefined, empty, 100 KiB and not ASCII", async () => {
    const big = "x".repeat(100 * 1024);
    const env = { LANE: undefined, EMPTY: "", BIG: big, WIDE: "ключ=значение 🙂" };
    assert.equal((await vm.exec("sh", ["-c", 'printf %s "$LANE"'], { env })).stdout, "one");
    assert.equal(
      (await vm.exec("sh", ["-c", 'printf %s "$' + '{EMPTY-unset}"'], { env })).stdout,
      "",
    );
    assert.equal((await vm.exec("sh", ["-c", 'printf %s "$BIG"'], { env })).stdout, big);
    assert.equal((await vm.exec("sh", ["-c", 'printf %s "$WIDE"'], { env })).stdout, env.WIDE);
  });

  test("runs as root, or as the user that is named", async () => {
    assert.equal((await vm.exec("id", ["-u"])).stdout, "0\n");
    assert.equal((await vm.exec("id", ["-u"], { user: "user" })).stdout, "1000\n");
    assert.equal((await vm.exec("id", ["-g"], { user: "1234:4321" })).stdout, "4321\n");
    assert.equal(
      (await vm.exec("sh", ["-c", "echo $HOME"], { user: "user" })).stdout,
      "/home/user\n",
    );
    await assert.rejects(vm.exec("id", [], { user: "nosuchuser" }), {
      name: "SandboxError",
      code: "process-not-started",
    });
  });

  test("reads end-of-file without stdin, and what is given with it", async () => {
    assert.equal((await vm.exec("cat")).stdout, "");
    assert.equal((await vm.exec("cat", [], { stdin: "héllo\n" })).stdout, "héllo\n");
    const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 31) & 0xff);
    const echoed = await vm.exec("cat", [], { stdin: bytes, encoding: "buffer" });
    assert.ok(Buffer.from(echoed.stdout).equals(Buffer.from(bytes)));
  });

  test("ends when the process does not read its stdin", async () => {
    const result = await vm.exec("true", [], { stdin: new Uint8Array(8 << 20) });
    assert.equal(result.exitCode, 0);
  });

  test("says 127 for a missing command and 126 for one that cannot run", async () => {
    assert.equal((await vm.exec("no-such-command")).exitCode, 127);
    assert.equal((await vm.exec("/no/such/command")).exitCode, 127);
    assert.equal((await vm.exec("/etc/passwd")).exitCode, 126);
    assert.equal((await vm.exec("/tmp")).exitCode, 126);
  });

  test("says 128+n and the signal's name for a death by signal", async () => {
    const killed = await vm.exec("sh", ["-c", "kill -KILL $$"]);
    assert.deepEqual([killed.exitCode, killed.signal], [137, "SIGKILL"]);
    const fault = await vm.exec("sh", ["-c", "kill -SEGV $$"]);
    assert.deepEqual([fault.exitCode, fault.signal], [139, "SIGSEGV"]);
  });

  test("ends a process at its timeout, with 124, even when it ignores TERM", async () => {
    assert.equal((await vm.exec("sleep", ["600"], { timeoutMs: 200 })).exitCode, 124);
    const stubborn = await vm.exec(
      "sh",
      ["-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
      {
        timeoutMs: 500,
      },
    );
    assert.deepEqual([stubborn.exitCode, stubborn.stdout], [124, "up\n"]);
  });

  test("an aborted exec rejects with AbortError, its group ends, the lane stays usable", async () => {
    const controller = new AbortController();
    const running = vm.exec("sh", ["-c", "sleep 4242 & wait"], { signal: controller.signal });
    await sleep(300);
    controller.abort();
    await assert.rejects(running, { name: "AbortError" });
    await shell(
      vm,
      "for i in 1 2 3 4 5 6; do pgrep -f 'sleep 4242' >/dev/null || exit 0; sleep 1; done; exit 1",
    );
    await assert.rejects(vm.exec("true", [], { signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
    assert.equal((await vm.exec("true")).exitCode, 0);
  });

  test("a background child that keeps the pipe open does not hold exec back", async () => {
    const result = await vm.exec("sh", ["-c", "sleep 600 & echo started"]);
    assert.deepEqual([result.exitCode, result.stdout], [0, "started\n"]);
    const noisy = await vm.exec("sh", ["-c", "(while :; do echo noise; done) & echo started"]);
    assert.equal(noisy.exitCode, 0);
    await shell(vm, "pkill -f 'sleep 600'; pkill -f noise; true");
  });

  test("100 MiB on stdout are cut at the cap and the lane is unharmed", async () => {
    const flood = await vm.exec("sh", ["-c", "head -c 104857600 /dev/zero; echo done >&2"], {
      encoding: "buffer",
    });
    assert.equal(flood.stdout.byteLength, 16 * 1024 * 1024);
    assert.equal(flood.truncated, true);
    assert.equal(Buffer.from(flood.stderr).toString(), "done\n");
    const small = await vm.exec("sh", ["-c", "yes | head -c 100000"], { maxOutputBytes: 1000 });
    assert.deepEqual([small.stdout.length, small.truncated], [1000, true]);
    const exact = await vm.exec("sh", ["-c", "head -c 1000 /dev/zero"], { maxOutputBytes: 1000 });
    assert.deepEqual([exact.stdout.length, exact.truncated], [1000, false]);
    assert.equal((await vm.exec("echo", ["still here"])).stdout, "still here\n");
  });

  test("200 in sequence and 50 at once: none crossed, none lost, the helper's memory flat", async () => {
    const [helper] = helpers();
    assert.ok(helper);
    const one = async (i: number) => {
      const result = await vm.exec("sh", [
        "-c",
        `echo out-${i}; echo err-${i} >&2; exit ${i % 100}`,
      ]);
      assert.deepEqual(
        [result.stdout, result.stderr, result.exitCode],
        [`out-${i}\n`, `err-${i}\n`, i % 100],
      );
    };
    for (let i = 0; i < 50; i++) await one(i);
    await Promise.all(Array.from({ length: 50 }, (_, i) => one(i)));
    const settled = memoryKiB(helper.pid);
    for (let i = 0; i < 200; i++) await one(i);
    await Promise.all(Array.from({ length: 50 }, (_, i) => one(i)));
    const grown = memoryKiB(helper.pid) - settled;
    assert.ok(grown < 4096, `the helper grew by ${grown} KiB`);
  });

  test("calls do not wait for one another", async () => {
    const slow = vm.exec("sleep", ["5"]);
    let slowEnded = false;
    void slow.then(() => {
      slowEnded = true;
    });
    for (let i = 0; i < 5; i++) assert.equal((await vm.exec("true")).exitCode, 0);
    assert.equal(slowEnded, false);
    await slow;
  });

  test("PID 1 reaps orphans and ignores being killed", async () => {
    await shell(vm, "for i in 1 2 3 4 5 6 7 8; do (sleep 0.2 &) ; done; sleep 1");
    assert.equal(
      await shell(vm, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"),
      "0",
    );
    await vm.exec("sh", ["-c", "for s in 1 2 3 6 9 10 11 12 13 14 15; do kill -$s 1; done; true"]);
    assert.equal((await vm.exec("echo", ["alive"])).stdout, "alive\n");
  });

  test("an invalid option is refused, by name, before anything runs", async () => {
    const bad: [unknown, RegExp][] = [
      [{ cwd: "relative" }, /cwd/],
      [{ cwd: "/a\0b" }, /cwd/],
      [{ timeoutMs: -1 }, /timeoutMs/],
      [{ timeoutMs: "5" }, /timeoutMs/],
      [{ maxOutputBytes: 1.5 }, /maxOutputBytes/],
      [{ env: { "A=B": "x" } }, /env/],
      [{ env: { A: 1 } }, /env/],
      [{ env: { A: "\0" } }, /env/],
      [{ encoding: "latin1" }, /encoding/],
      [{ colour: true }, /colour/],
      [{ stdin: 5 }, /stdin/],
    ];
    for (const [options, named] of bad) {
      await assert.rejects(
        async () => vm.exec("true", [], options as never),
        (error) =>
          error instanceof SandboxError &&
          error.code === "invalid-argument" &&
          named.test(error.message),
        JSON.stringify(options),
      );
    }
    await assert.rejects(async () => vm.exec("a\0b"), { code: "invalid-argument" });
    await assert.rejects(async () => vm.exec("echo", ["a\0b"]), { code: "invalid-argument" });
  });
});
