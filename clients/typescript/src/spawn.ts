// spawn: a process with Web streams.
import type { ReadableStream, WritableStream } from "node:stream/web";
import { GuestProcess, type ProcessExit } from "./guest-process.js";
import type { Lane } from "./lane.js";
import type { ProcessSpec } from "./process.js";
import { checkSpawnOptions } from "./spawn-options.js";
import { list, matching, nonEmptyText, text, withDefault } from "./validate.js";
import { handled } from "./wait.js";

/** A process of the guest. What of it is not awaited or read harms nobody. */
export interface SpawnedProcess {
  /** Its number in the guest; undefined until `ready` has resolved. */
  readonly pid: number | undefined;
  /**
   * Its standard input; chunks are bytes or text. Closing it gives the process end-of-file. A process
   * that does not read makes writes wait; once it has ended they reject (`not-found`, `EPIPE`).
   */
  readonly stdin: WritableStream<Uint8Array | string>;
  /**
   * Its standard output. 256 KiB are read ahead; then the process waits for the reader, as it does
   * with a pipe. What comes after `cancel()` is thrown away.
   */
  readonly stdout: ReadableStream<Uint8Array>;
  /** Its standard error, as stdout. */
  readonly stderr: ReadableStream<Uint8Array>;
  /** Resolves when the program runs; rejects when it cannot start. */
  readonly ready: Promise<void>;
  /**
   * Resolves when the process has ended, whatever is still unread: with 127 when the command does
   * not exist, 126 when it cannot be executed, 125 when its directory or user is not there. Rejects
   * only when the end cannot be known, above all with `sandbox-exited` and `sandbox-closed`.
   */
  readonly exit: Promise<ProcessExit>;
  /**
   * Sends a signal, such as `"SIGTERM"` (default) or `"SIGRTMIN+1"`, to the whole process group,
   * whatever the state of the streams. Resolves with false when the process has ended already.
   */
  kill(signal?: string): Promise<boolean>;
}

const signalName = withDefault(
  matching(/^SIG[A-Z0-9]+([+-][0-9]+)?$/, 'a Linux signal name such as "SIGTERM"'),
  "SIGTERM",
);

/** Checks the arguments and starts the process. */
export function spawn(lane: Lane, command: unknown, args: unknown, given: unknown): SpawnedProcess {
  const { signal, ...options } = checkSpawnOptions(given, "options");
  const process = new GuestProcess(lane, processSpec(command, args, options), signal);
  return {
    get pid() {
      return process.pid;
    },
    stdin: process.input.stream,
    stdout: process.stdout.stream,
    stderr: process.stderr.stream,
    ready: process.ready,
    exit: process.exit,
    kill: (name) => killed(process, name),
  };
}

/** What to run, from checked options and what is still to be checked. */
export function processSpec(
  command: unknown,
  args: unknown,
  options: Omit<ProcessSpec, "command" | "args" | "stdin" | "maxOutputBytes">,
): Omit<ProcessSpec, "stdin"> {
  return {
    ...options,
    command: nonEmptyText(command, "command"),
    args: withDefault(list(text), [])(args, "args"),
    maxOutputBytes: undefined,
  };
}

/** `kill` of a process: the name is checked at once. */
export function killed(process: GuestProcess, signal: string | undefined): Promise<boolean> {
  return handled(process.kill(signalName(signal, "signal")));
}
