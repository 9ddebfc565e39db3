// pty: a process with a controlling terminal.
import type { ReadableStream, WritableStream } from "node:stream/web";
import { GuestProcess, type ProcessExit } from "./guest-process.js";
import type { Lane } from "./lane.js";
import { wireSize } from "./process.js";
import { killed, processSpec } from "./spawn.js";
import { checkPtyOptions, type TerminalSize, terminalSize } from "./spawn-options.js";
import { handled } from "./wait.js";

/** A process of the guest that has a terminal. */
export interface PtyProcess {
  /** Its number in the guest; undefined until `ready` has resolved. */
  readonly pid: number | undefined;
  /**
   * What is typed: bytes or text. Ctrl-C, Ctrl-D and Ctrl-Z are the bytes 3, 4 and 26. Closing it hangs
   * the terminal up, as closing a terminal's window does: its programs get SIGHUP.
   */
  readonly input: WritableStream<Uint8Array | string>;
  /** What the terminal shows: standard output and error together. Unread, it stops the writers. */
  readonly output: ReadableStream<Uint8Array>;
  /** Resolves when the program runs; rejects when it cannot start. */
  readonly ready: Promise<void>;
  /** As `exit` of a spawned process. */
  readonly exit: Promise<ProcessExit>;
  /**
   * Gives the terminal a new size; its foreground programs get SIGWINCH. Does nothing once the process
   * has ended. Waits until it runs.
   */
  resize(size: TerminalSize): Promise<void>;
  /** Sends a signal to the group of the process itself, not to that of its jobs. */
  kill(signal?: string): Promise<boolean>;
}

/** Checks the arguments and starts the process. */
export function pty(lane: Lane, command: unknown, args: unknown, given: unknown): PtyProcess {
  const { signal, size, ...options } = checkPtyOptions(given, "options");
  const spec = { ...processSpec(command, args, options), terminal: size };
  const process = new GuestProcess(lane, spec, signal);
  const sizes = new Sizes(lane, process);
  return {
    get pid() {
      return process.pid;
    },
    input: process.input.stream,
    output: process.stdout.stream,
    ready: process.ready,
    exit: process.exit,
    resize: (wanted) => handled(sizes.set(terminalSize(wanted, "size"))),
    kill: (name) => killed(process, name),
  };
}

/** Sends sizes one after another; of those that wait only the last is sent. */
class Sizes {
  readonly #lane: Lane;
  readonly #process: GuestProcess;
  #wanted: TerminalSize | undefined;
  #sending: Promise<void> | undefined;

  constructor(lane: Lane, process: GuestProcess) {
    this.#lane = lane;
    this.#process = process;
  }

  set(size: TerminalSize): Promise<void> {
    this.#wanted = size;
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  async #send(): Promise<void> {
    await this.#process.ready;
    while (this.#wanted !== undefined) {
      const size = wireSize(this.#wanted);
      this.#wanted = undefined;
      await this.#process.about((pid) =>
        this.#lane.process((processes) => processes.resize({ pid, size })),
      );
    }
  }
}
