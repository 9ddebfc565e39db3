// `lanebox shell`: an interactive program in a VM of its own, on this terminal.
//
//   boot ──► raw mode, the guest's terminal as large as this one ──► the program ends ──► exit status
//
// In raw mode Ctrl-C goes to the guest. A signal to lanebox itself, or the end of this terminal,
// hangs the guest's up; a second signal kills the VM at once.
import { constants } from "node:os";
import { Readable, Writable } from "node:stream";
import type { ProcessExit } from "../guest-process.js";
import type { Lane } from "../lane.js";
import { type PtyProcess, pty } from "../pty.js";
import type { TerminalSize } from "../spawn-options.js";
import { type ShellCommand, UsageError } from "./arguments.js";
import { inLane } from "./in-lane.js";
import type { Interrupt } from "./interrupt.js";

/** A login shell: bash where there is one. */
const SHELL = ["-c", "command -v bash >/dev/null && exec bash -l; exec sh -l"];

/** Boots, connects the terminals, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function shellCommand(options: ShellCommand): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new UsageError("shell needs a terminal; use lanebox run for pipes and files");
  }
  return inLane(options, async (lane, interrupt) =>
    interrupt.status !== undefined ? interrupt.status : onThisTerminal(lane, options, interrupt),
  );
}

async function onThisTerminal(
  lane: Lane,
  options: ShellCommand,
  interrupt: Interrupt,
): Promise<number> {
  const term = process.env["TERM"];
  const env = { ...(term ? { TERM: term } : {}), ...options.env };
  const [command, ...args] = options.command.length > 0 ? options.command : ["sh", ...SHELL];
  const guest = pty(lane, command, args, { env, size: size() });
  const follow = () => void guest.resize(size());
  const hangUp = () => void guest.input.abort().catch(() => undefined);
  process.stdout.on("resize", follow);
  interrupt.giveUp.addEventListener("abort", hangUp, { once: true });
  process.stdin.setRawMode(true);
  try {
    await guest.ready;
    const exit = await connected(guest);
    return interrupt.status ?? shellStatus(exit);
  } finally {
    process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stdout.off("resize", follow);
    interrupt.giveUp.removeEventListener("abort", hangUp);
  }
}

/** Passes everything through until the process has ended and all it wrote is shown. */
async function connected(guest: PtyProcess): Promise<ProcessExit> {
  const output = guest.output.pipeTo(Writable.toWeb(process.stdout), { preventClose: true });
  const typed = Readable.toWeb(process.stdin);
  const input = typed.pipeTo(guest.input).catch(() => undefined); // the process has ended
  const exit = await guest.exit;
  // A program in the background may keep the terminal; this one shows no more of it.
  await output.catch(() => undefined);
  void input;
  return exit;
}

function size(): TerminalSize {
  const side = (value: number | undefined, otherwise: number) =>
    Math.min(Math.max(value || otherwise, 1), 65535);
  const { rows, columns } = process.stdout;
  return { rows: side(rows, 24), cols: side(columns, 80) };
}

function shellStatus({ exitCode, signal }: ProcessExit): number {
  if (exitCode !== null) return exitCode;
  const numbers: Record<string, number> = constants.signals;
  return 128 + (numbers[signal ?? ""] ?? 0);
}
