/**
 * The peer of the boot benchmark: QEMU started by hand with the kernel, the kernel command line, the
 * memory and the disk of a lane, and a shell as init. The arguments that matter are read off the
 * engine of a running lane, so that both boot the same machine.
 */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

export interface BareMachine {
  program: string;
  args: string[];
}

/** The options of a running engine that make the machine what it is. */
const KEPT = new Set(["-machine", "-M", "-cpu", "-accel", "-smp", "-m", "-object", "-global"]);

/** A bare machine like the one that the engine `pid` runs. */
export function bareMachineLike(pid: number, kernel: string, image: string): BareMachine {
  const [program, ...given] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  if (program === undefined) throw new Error("the engine is gone");
  const args: string[] = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
  for (let i = 0; i < given.length; i++) {
    const option = given[i] ?? "";
    const value = given[i + 1];
    if (KEPT.has(option) && value !== undefined) args.push(option, value);
    if (option === "-append" && value !== undefined) {
      args.push(option, `${value} root=/dev/vda ro init=/bin/sh`);
    }
  }
  args.push("-kernel", kernel, "-serial", "stdio");
  args.push("-drive", `file=${image},format=qcow2,if=none,id=root,read-only=on`);
  args.push("-device", "virtio-blk-device,drive=root");
  return { program, args };
}

/** Milliseconds that a bare machine gets to answer in. */
const DEADLINE_MS = 60_000;

/** Milliseconds from the start of QEMU to the answer of the shell to its first command. */
export async function bootBare(machine: BareMachine): Promise<number> {
  const started = performance.now();
  const child = spawn(machine.program, machine.args, { stdio: ["pipe", "pipe", "inherit"] });
  const exited = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const deadline = setTimeout(() => child.kill("SIGKILL"), DEADLINE_MS);
  let output = "";
  let asked = false;
  const answered = new Promise<number>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
      if (output.includes("ready-42")) resolve(performance.now() - started);
      // Not before the prompt: the kernel empties the serial port when it takes it over.
      if (!asked && output.includes("/ # ")) {
        asked = true;
        child.stdin.write("echo ready-$((6*7))\n");
      }
    });
    child.on("close", () => reject(new Error(`bare QEMU ended without an answer:\n${output}`)));
  });
  try {
    return await answered;
  } finally {
    clearTimeout(deadline);
    child.kill("SIGKILL");
    await exited;
  }
}

/** A shell that is the init of a bare machine, spoken to over its serial port. */
export class BareShell {
  readonly #child: ReturnType<typeof spawnPiped>;
  readonly #exited: Promise<void>;
  #output = "";
  #wake: () => void = () => {};
  #ended = false;
  #asked = 0;

  private constructor({ program, args }: BareMachine) {
    this.#child = spawnPiped(program, args);
    this.#exited = new Promise((resolve) => this.#child.on("close", () => resolve()));
    this.#child.stdout.on("data", (chunk: Buffer) => {
      this.#output += chunk.toString("latin1");
      this.#wake();
    });
    this.#child.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** Starts the machine; resolves when the shell is there. */
  static async start(machine: BareMachine): Promise<BareShell> {
    const shell = new BareShell(machine);
    await shell.#heard(/ \/ # |^\/ # /m);
    return shell;
  }

  /** Runs a line, and resolves with what it printed when it is done. */
  async ask(line: string): Promise<string> {
    const mark = ++this.#asked;
    this.#output = "";
    this.#child.stdin.write(`${line}; echo done-$((${mark}*1000+7))-\n`);
    return await this.#heard(new RegExp(`done-${mark * 1000 + 7}-`));
  }

  /** Ends the machine. */
  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async #heard(pattern: RegExp): Promise<string> {
    const deadline = setTimeout(() => this.#child.kill("SIGKILL"), 4 * DEADLINE_MS);
    try {
      for (;;) {
        if (pattern.test(this.#output)) return this.#output;
        if (this.#ended) throw new Error(`bare QEMU ended without an answer:\n${this.#output}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(deadline);
    }
  }
}

function spawnPiped(program: string, args: string[]) {
  return spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
}
