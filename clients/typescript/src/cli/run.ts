// `lanebox run`: one command in a VM of its own, its streams and its exit status passed through.
//
//   boot ──► the command runs ──► the VM is closed ──► exit status
//     └────────────┴── a signal: the guest's process group gets SIGTERM, then SIGKILL; a second
//                      signal kills the VM at once

import { AbortError, SandboxError } from "../errors.js";
import { notStartedStatus } from "../exec.js";
import type { Lane } from "../lane.js";
import { type ProcessSpec, run } from "../process.js";
import type { RunCommand } from "./arguments.js";
import { inLane } from "./in-lane.js";
import type { Interrupt } from "./interrupt.js";
import { BROKEN_PIPE_STATUS, isBrokenPipe, write } from "./output.js";

/** Boots, runs, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function runCommand(options: RunCommand): Promise<number> {
  return inLane(options, (lane, interrupt) => runIn(lane, options, interrupt));
}

async function runIn(lane: Lane, options: RunCommand, interrupt: Interrupt): Promise<number> {
  const spec: ProcessSpec = {
    command: options.command,
    args: options.args,
    env: options.env,
    cwd: undefined,
    user: undefined,
    stdin: process.stdin,
    timeoutMs: options.timeoutMs,
    maxOutputBytes: undefined,
  };
  try {
    for await (const event of run(lane, spec, interrupt.giveUp)) {
      if (event.type === "started") interrupt.started(event.pid);
      else if (event.type === "stdout") await interrupt.race(write(process.stdout, event.data));
      else if (event.type === "stderr") await interrupt.race(write(process.stderr, event.data));
      else return interrupt.status ?? event.end.exitCode;
    }
  } catch (error) {
    if (interrupt.status !== undefined) return interrupt.status;
    if (isBrokenPipe(error)) return BROKEN_PIPE_STATUS;
    const status = notStartedStatus(error);
    if (status === undefined || error instanceof AbortError) throw error;
    await write(process.stderr, `lanebox: ${(error as Error).message}\n`);
    return status;
  }
  throw new SandboxError("internal", "The process ended without a status");
}
