/**
 * The benchmark of callback filesystems: stat and a read of 64 KiB of fs.memory beside a no-op on the
 * same stream (guest/callback-work.c), in the guest end to end, and in the helper from the question
 * to its answer; and fs.memory beside the guest's own tmpfs.
 *
 * Run as a program it boots a lane, works in it and prints what the guest measured. The helper tells
 * of each question on stderr, which a lane shares with its program: hence a program of its own.
 */

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fs } from "lanebox";
import { checkout } from "../support/artifacts.js";
import { boot, shell } from "../support/lane.js";
import { median, report } from "./statistics.js";

const ROUNDS = 500;
const DATA_BYTES = 64 * 1024;
const DEADLINE_MS = 10 * 60_000;
const GOAL = "goal <= 1.5 x";

/** What one run of the program told. */
interface Told {
  /** Medians in the guest, in microseconds: by where and what. */
  guest: Map<string, number>;
  /** In the helper, of each question, in microseconds: by what was expected of its answer. */
  questions: Map<string, number[]>;
}

async function run(log: string): Promise<Told> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), "lane"], {
    env: { ...process.env, LANEBOX_LOG: log },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: DEADLINE_MS,
  });
  let [output, messages] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    messages += chunk.toString();
  });
  const status = await new Promise((resolve) => child.on("close", resolve));
  if (status !== 0) throw new Error(`the lane of the benchmark failed:\n${messages.slice(-4000)}`);
  const told: Told = { guest: new Map(), questions: new Map() };
  for (const [, name = "", micros] of output.matchAll(/^(\S+ \S+) (\d+\.\d)$/gm))
    told.guest.set(name, Number(micros));
  for (const [, kind = "", micros] of messages.matchAll(
    /"expected":"(\w+)[^"]*","micros":(\d+)/g,
  )) {
    told.questions.set(kind, [...(told.questions.get(kind) ?? []), Number(micros)]);
  }
  return told;
}

/** The program: prints "PLACE NAME MICROSECONDS". */
async function lane(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-bench-callbacks-"));
  try {
    const source = join(checkout, "tests/e2e/guest/callback-work.c");
    execFileSync("cc", ["-O2", "-static", "-o", join(folder, "work"), source]);
    const mounts = {
      "/mnt/memory": fs.memory({ files: { data: Buffer.alloc(DATA_BYTES, "data") } }),
      "/mnt/tools": fs.bind({ source: folder }),
    };
    const vm = await boot({ mounts });
    await shell(vm, "mkdir /tmp/tmpfs && cp /mnt/memory/data /tmp/tmpfs");
    for (const place of ["/mnt/memory", "/tmp/tmpfs"]) {
      const told = await shell(vm, `/mnt/tools/work ${place} ${ROUNDS}`);
      for (const line of told.split("\n")) console.log(`${place} ${line}`);
    }
    await vm.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs it and reports. */
export async function benchCallbacks(): Promise<void> {
  const { guest } = await run("error");
  const { questions } = await run("sandbox_host::mount::link=trace");
  const inGuest = (place: string, name: string) => {
    const value = guest.get(`${place} ${name}`);
    if (value === undefined) throw new Error(`the guest measured no ${name} in ${place}`);
    return value;
  };
  const asked = (kind: string) => median(questions.get(kind) ?? []);
  const beside = (what: string, value: number, peer: number, goal = "") => {
    report(what, `${value.toFixed(0)} / ${peer.toFixed(0)} us`);
    report("  ratio", `${(value / peer).toFixed(2)} x`, goal);
  };
  // In the helper a write of 64 KiB is "Written", an fsync "Done".
  beside("callback stat / no-op, question to answer", asked("Stat"), asked("Done"), GOAL);
  beside("callback 64 KiB read / no-op, question to answer", asked("Data"), asked("Done"), GOAL);
  for (const name of ["stat", "read"]) {
    const [value, noop] = [inGuest("/mnt/memory", name), inGuest("/mnt/memory", "no-op")];
    beside(`callback ${name} / no-op, in the guest`, value, noop);
  }
  for (const name of ["stat", "read", "write", "create"]) {
    const [ours, tmpfs] = [inGuest("/mnt/memory", name), inGuest("/tmp/tmpfs", name)];
    beside(`fs.memory / tmpfs in the guest, ${name}`, ours, tmpfs);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2] === "lane") await lane();
