/** `pty` in a running lane, and `lanebox shell` in a real terminal (tmux). */

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { PtyProcess, Vm } from "lanebox";
import { artifacts } from "./support/artifacts.js";
import { BUSYBOX, boot, shell } from "./support/lane.js";
import { Reading } from "./support/streams.js";

const run = promisify(execFile);

describe("pty", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot();
  });
  after(() => vm?.close());

  function open(
    command: string,
    args: string[],
    options = {},
  ): { process: PtyProcess; out: Reading; type: (text: string) => Promise<void> } {
    const process = vm.pty(command, args, options);
    const writer = process.input.getWriter();
    return { process, out: new Reading(process.output), type: (text) => writer.write(text) };
  }

  test("is a controlling terminal of the size asked for", async () => {
    const { process, out } = open("sh", ["-c", "tty; stty size; echo $TERM; echo hi >/dev/tty"], {
      size: { rows: 30, cols: 101 },
    });
    await out.until(/\/dev\/pts\/\d+\r\n30 101\r\nxterm-256color\r\nhi\r\n/);
    assert.deepEqual(await process.exit, { exitCode: 0, signal: null });
  });

  test("belongs to the user that is asked for", async () => {
    const { out } = open("sh", ["-c", "stat -c %u $(tty); : >$(tty) && echo may"], {
      user: "user",
    });
    await out.until(/1000\r\nmay\r\n/);
  });

  test("resize is seen, and told by SIGWINCH", async () => {
    const { process, out } = open("sh", [
      "-c",
      "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.1; done",
    ]);
    await out.until("up");
    await process.resize({ rows: 50, cols: 132 });
    await out.until("50 132");
    assert.equal((await process.exit).exitCode, 0);
    await process.resize({ rows: 1, cols: 1 });
    assert.throws(() => process.resize({ rows: 0, cols: 1 }), { code: "invalid-argument" });
  });

  test("a shell has job control; Ctrl-C, Ctrl-Z and Ctrl-D are bytes", async () => {
    const { process, out, type } = open("sh", ["-i"], { env: { PS1: "$ " } });
    await out.until("$ ");
    await type("sleep 600\n");
    await out.until("sleep 600\r\n");
    await foreground(vm, process);
    await type("\x1a");
    await out.until(/Stopped/);
    await type("jobs; fg\n");
    await out.until(/Stopped[^\n]*sleep 600/);
    await foreground(vm, process);
    await type("\x03");
    await out.until("$ ");
    await type("echo status=$?\n");
    await out.until("status=130");
    await type("\x04");
    assert.equal((await process.exit).signal, null);
  });

  test("closing the input hangs up, and ends what the shell had in the background", async () => {
    const process = vm.pty("sh", [
      "-c",
      "trap 'exit 33' HUP; echo up; while :; do sleep 0.1; done",
    ]);
    await new Reading(process.output).until("up");
    await process.input.close();
    assert.deepEqual(await process.exit, { exitCode: 33, signal: null });
  });

  test("output that nobody reads stops the writer, and kill works", async () => {
    const process = vm.pty("yes");
    await process.ready;
    await sleep(300);
    assert.equal(await process.kill("SIGKILL"), true);
    assert.deepEqual(await process.exit, { exitCode: null, signal: "SIGKILL" });
  });

  test("abort ends an interactive shell, which ignores SIGTERM", async () => {
    const abort = new AbortController();
    const { process, out } = open("sh", ["-i"], { signal: abort.signal, env: { PS1: "$ " } });
    await out.until("$ ");
    abort.abort();
    const { signal } = await process.exit;
    assert.ok(signal === "SIGKILL" || signal === "SIGHUP" || signal === "SIGTERM", String(signal));
  });
});

/** Waits until a shell has a job in its terminal's foreground. */
async function foreground(vm: Vm, shellProcess: PtyProcess): Promise<void> {
  const stat = `/proc/${shellProcess.pid}/stat`;
  await shell(vm, `while set -- $(cat ${stat}) && [ "$5" = "$8" ]; do sleep 0.05; done`);
}

describe("lanebox shell", {
  skip: spawnSync("tmux", ["-V"]).error && "tmux is not installed",
}, () => {
  const socket = `lanebox-${process.pid}`;
  const tmux = async (...args: string[]) => (await run("tmux", ["-L", socket, ...args])).stdout;
  const screen = () => tmux("capture-pane", "-p", "-t", "main");
  after(() => void spawnSync("tmux", ["-L", socket, "kill-server"]));

  async function shows(pattern: RegExp): Promise<void> {
    const end = Date.now() + 90_000;
    while (!pattern.test(await screen())) {
      if (Date.now() > end) assert.fail(`never: ${pattern}\n${await screen()}`);
      await sleep(100);
    }
  }

  test("is a terminal in a terminal: keys, Ctrl-C, size, exit status", async () => {
    const cli = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));
    const line = `LANEBOX_MIN_ISOLATION=emulated LANEBOX_ARTIFACTS=${artifacts} ${cli} shell --image ${BUSYBOX}; echo status=$?; cat`;
    await tmux("new-session", "-d", "-s", "main", "-x", "90", "-y", "25", "sh", "-c", line);
    await shows(/^[~/]? ?[#$] ?$/m);
    await tmux("send-keys", "-t", "main", "stty size; tty", "Enter");
    await shows(/^25 90\n\/dev\/pts\/\d/m);
    await tmux("send-keys", "-t", "main", "sleep 600", "Enter");
    await sleep(500);
    await tmux("send-keys", "-t", "main", "C-c");
    await tmux("send-keys", "-t", "main", "echo after-$?", "Enter");
    await shows(/^after-130/m);
    await tmux("resize-window", "-t", "main", "-x", "100", "-y", "33");
    // What is typed may overtake the new size.
    const resized = 'until [ "$(stty size)" = "33 100" ]; do sleep 0.1; done; clear; stty size';
    await tmux("send-keys", "-t", "main", resized, "Enter");
    await shows(/^33 100/m);
    await tmux("send-keys", "-t", "main", "exit 42", "Enter");
    await shows(/^status=42/m);
    // The terminal is as it was: what is typed is shown, and Ctrl-C ends what runs there.
    await tmux("send-keys", "-t", "main", "typed", "Enter");
    await shows(/^typed\ntyped/m);
  });

  test("refuses to run without a terminal", async () => {
    const cli = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));
    const failed = await run(cli, ["shell"]).catch((error) => error);
    assert.equal(failed.code, 2);
    assert.match(failed.stderr, /needs a terminal/);
  });
});
