/** The command line, run as a user runs it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { BUSYBOX } from "./support/lane.js";
import { descendants, engines, eventually } from "./support/processes.js";

const main = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));

interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
}

function start(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(main, args, {
    env: { ...process.env, LANEBOX_MIN_ISOLATION: "emulated", ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  child.stdin.on("error", () => {});
  const finished = new Promise<Finished>((resolve) => {
    child.on("close", (status) =>
      resolve({
        status,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      }),
    );
  });
  return { child, finished, stdout: () => Buffer.concat(out).toString() };
}

async function lanebox(args: string[], options: { stdin?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { child, finished } = start(args, options.env);
  child.stdin.end(options.stdin ?? "");
  return finished;
}

const RUN = ["run", "--image", "busybox:1.35"];

describe("lanebox run", () => {
  test("passes stdin, stdout, stderr and the exit status", async () => {
    const result = await lanebox(
      [
        ...RUN,
        "--env",
        "GREETING=hi there",
        "--",
        "sh",
        "-c",
        "cat; echo $GREETING; echo err >&2; exit 7",
      ],
      { stdin: "from stdin\n" },
    );
    assert.deepEqual(result, { status: 7, stdout: "from stdin\nhi there\n", stderr: "err\n" });
  });

  test("gives the CPUs and the memory that were asked for", async () => {
    const result = await lanebox([
      ...RUN,
      "--cpus",
      "2",
      "--memory",
      "300",
      "--",
      "sh",
      "-c",
      "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo",
    ]);
    const [cpus, memory] = result.stdout.split("\n").map(Number);
    assert.equal(cpus, 2);
    assert.ok(memory !== undefined && memory > 200 * 1024 && memory <= 300 * 1024, String(memory));
  });

  test("Ctrl-C ends the guest's process, then the lane", async () => {
    const { child, finished, stdout } = start([...RUN, "--", "sh", "-c", "echo up; sleep 600"]);
    assert.ok(await eventually(() => stdout().includes("up"), 60_000));
    child.kill("SIGINT");
    assert.equal((await finished).status, 130);
    assert.ok(await eventually(() => descendants(process.pid).length === 0));
    assert.deepEqual(engines(), []);
  });

  test("ends a command at --timeout", async () => {
    const result = await lanebox([...RUN, "--timeout", "1", "--", "sleep", "600"]);
    assert.equal(result.status, 124);
  });

  test("keeps a root in a file, and copies a tree into it and out again", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lanebox-cli-"));
    try {
      mkdirSync(join(folder, "tree"));
      writeFileSync(join(folder, "tree/run"), "#!/bin/sh\necho it runs\n", { mode: 0o755 });
      symlinkSync("run", join(folder, "tree/link"));
      const kept = ["--image", BUSYBOX, "--persistent", join(folder, "disk")];
      const into = await lanebox(["cp", ...kept, join(folder, "tree"), "guest:/opt"]);
      assert.equal(into.status, 0, into.stderr);
      const ran = await lanebox(["run", ...kept, "--", "/opt/link"]);
      assert.deepEqual([ran.status, ran.stdout], [0, "it runs\n"], ran.stderr);
      const out = await lanebox(["cp", ...kept, "guest:/opt", join(folder, "back")]);
      assert.equal(out.status, 0, out.stderr);
      assert.equal(readlinkSync(join(folder, "back/link")), "run");
      assert.equal(statSync(join(folder, "back/run")).mode & 0o777, 0o755);
      const lost = await lanebox(["cp", "--image", BUSYBOX, folder, "guest:/opt"]);
      assert.equal(lost.status, 2);
      assert.match(lost.stderr, /--persistent/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("says 127 for a missing command", async () => {
    assert.equal((await lanebox([...RUN, "--", "no-such-command"])).status, 127);
  });

  test("ends quietly when nobody reads its output", async () => {
    const { child, finished } = start([...RUN, "--", "yes"]);
    child.stdin.end();
    child.stdout.once("data", () => child.stdout.destroy());
    const result = await finished;
    assert.doesNotMatch(result.stderr, /at .*\.js/);
    await sleep(0);
    assert.ok(await eventually(() => descendants(process.pid).length === 0));
  });

  test("names bad arguments", async () => {
    for (const [args, named] of [
      [["run", "--colour", "--", "true"], /--colour/],
      [["run", "--cpus", "none", "--", "true"], /cpus/],
      [["run", "--image", "nosuch:1", "--", "true"], /nosuch:1/],
      [["run"], /command/i],
      [["walk"], /walk/],
      [[...RUN, "--env", "NOVALUE", "--", "true"], /NOVALUE|--env/],
    ] as [string[], RegExp][]) {
      const result = await lanebox(args);
      assert.notEqual(result.status, 0, args.join(" "));
      assert.match(result.stderr, named);
      assert.doesNotMatch(result.stderr, /at .*\.js/);
    }
  });

  test("refuses emulation unless it is asked for, and says how", async (t) => {
    const result = await lanebox([...RUN, "--", "true"], {
      env: { LANEBOX_MIN_ISOLATION: undefined },
    });
    if (result.status === 0) return t.skip("this machine has hardware virtualization");
    assert.equal(result.status, 125);
    assert.match(result.stderr, /emulated/);
    return undefined;
  });
});

describe("lanebox doctor and images", () => {
  test("doctor tells what the probe found, for people and for programs", async () => {
    const text = await lanebox(["doctor"]);
    assert.equal(text.status, 0, text.stderr);
    assert.match(text.stdout, /qemu/i);
    const json = await lanebox(["doctor", "--json"]);
    const report = JSON.parse(json.stdout);
    const qemu = report.engines.find((e: { engine: string }) => e.engine === "qemu");
    assert.equal(qemu.code, "ok");
    const strict = await lanebox(["doctor"], { env: { LANEBOX_MIN_ISOLATION: "hardware" } });
    const krun = report.engines.find((e: { engine: string }) => e.engine === "krun");
    assert.equal(strict.status, krun.code === "ok" ? 0 : 1);
  });

  test("images lists what is installed", async () => {
    assert.match((await lanebox(["images"])).stdout, /busybox:1\.35/);
    const list = JSON.parse((await lanebox(["images", "--json"])).stdout);
    assert.ok(JSON.stringify(list).includes("busybox:1.35"));
  });

  test("help and version", async () => {
    assert.match((await lanebox(["--help"])).stdout, /run.*doctor.*images/s);
    assert.match((await lanebox(["--version"])).stdout, /^\d+\.\d+\.\d+/m);
  });
});
