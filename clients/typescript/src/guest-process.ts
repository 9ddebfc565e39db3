// A process that runs in the guest, behind spawn and pty: the events of its Run call given to the
// streams and promises that the user holds.
//
//   run ──started──► ready          ┌─► stdout, stderr   (each at its reader's pace)
//      ──output───► pump ───────────┘
//      ──exited───► exit; and, while the pump waits for a reader, from a Wait call
//
// Nobody has to await anything: no rejection is unhandled.
import { onAbort } from "./abort.js";
import { AbortError, SandboxError } from "./errors.js";
import { notStartedStatus } from "./exec.js";
import type { Lane } from "./lane.js";
import { type ProcessEnd, type ProcessSpec, processEnd, run } from "./process.js";
import { ProcessInput } from "./process-input.js";
import { ProcessOutput } from "./process-output.js";
import { deferred, handled } from "./wait.js";

/** How a process ended. */
export interface ProcessExit {
  /** Its status, 0 to 255; null when a signal ended it. */
  readonly exitCode: number | null;
  /** Name of the signal that ended it, such as `SIGKILL`; otherwise null. */
  readonly signal: string | null;
}

/** Milliseconds between SIGTERM and SIGKILL after an abort. */
const GRACE_MS = 1000;
/** Milliseconds from SIGKILL to giving up. */
const GIVE_UP_MS = 15_000;
/** Status of a process that could not be started for a reason of its options, as of env(1). */
const NOT_STARTED = 125;

/** A process. It starts when this is made. */
export class GuestProcess {
  readonly input = new ProcessInput();
  readonly stdout = new ProcessOutput();
  readonly stderr = new ProcessOutput();
  readonly ready: Promise<void>;
  readonly exit: Promise<ProcessExit>;
  pid: number | undefined;
  readonly #lane: Lane;
  readonly #cancel = new AbortController();
  #started: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #ended: { resolve: (exit: ProcessExit) => void; reject: (error: Error) => void } | undefined;
  readonly #running = deferred<void>();
  #isOver = false;
  #waits = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(lane: Lane, spec: Omit<ProcessSpec, "stdin">, signal: AbortSignal | undefined) {
    if (signal?.aborted) throw new AbortError(signal);
    this.#lane = lane;
    this.ready = handled(
      new Promise((resolve, reject) => {
        this.#started = { resolve, reject };
      }),
    );
    this.exit = handled(
      new Promise((resolve, reject) => {
        this.#ended = { resolve, reject };
      }),
    );
    const deaf = onAbort(signal, () => signal && this.#abort(new AbortError(signal)));
    this.#pump({ ...spec, stdin: this.input }).finally(() => {
      deaf();
      clearTimeout(this.#timer);
    });
  }

  /** Sends a signal to the group; false when the process has ended. Waits until it runs. */
  async kill(signal: string): Promise<boolean> {
    await this.ready;
    return this.about((pid) => this.#lane.signalProcess(pid, signal));
  }

  /** Makes a call about the running process; false when it has ended. */
  async about(call: (pid: number) => Promise<unknown>): Promise<boolean> {
    if (this.#isOver || this.pid === undefined) return false;
    try {
      await call(this.pid);
      return true;
    } catch (error) {
      if (error instanceof SandboxError && error.code === "not-found") return false;
      throw error;
    }
  }

  async #pump(spec: ProcessSpec): Promise<void> {
    try {
      for await (const event of run(this.#lane, spec, this.#cancel.signal)) {
        if (event.type === "started") {
          this.pid = event.pid;
          this.#started?.resolve();
          this.#running.resolve();
        } else if (event.type === "exited") {
          this.#end(event.end);
        } else {
          const room = this[event.type].push(event.data);
          if (room !== undefined) {
            this.#watchEnd();
            await room;
          }
        }
      }
      this.stdout.end();
      this.stderr.end();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** The pump has stopped, for a reader: how the process ends must not wait for that. */
  #watchEnd(): void {
    const { pid } = this;
    if (this.#waits || this.#isOver || pid === undefined) return;
    this.#waits = true;
    this.#lane
      .process((processes) => processes.wait({ pid }))
      .then(({ exited }) => exited && this.#end(processEnd(exited)))
      .catch(() => undefined); // the pump hears of what it is
  }

  #end(end: ProcessEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ended?.resolve({ exitCode: end.ownCode, signal: end.signal });
    this.input.fail(ended());
  }

  #fail(error: Error): void {
    this.#started?.reject(error);
    const status = startFailure(error);
    if (status === undefined) this.#ended?.reject(error);
    else this.#ended?.resolve({ exitCode: status, signal: null });
    this.#isOver = true;
    this.input.fail(error);
    this.stdout.fail(error);
    this.stderr.fail(error);
  }

  /** Ends the group, and reads what still comes without keeping it. */
  #abort(error: AbortError): void {
    this.#started?.reject(error);
    this.input.fail(error);
    this.stdout.fail(error);
    this.stderr.fail(error);
    const send = async (signal: string) => {
      // A process that has not started yet gets it when it has.
      await this.#running.promise;
      await this.about((pid) => this.#lane.signalProcess(pid, signal));
    };
    const later = (ms: number, then: () => void) => {
      if (!this.#isOver) this.#timer = setTimeout(then, ms);
    };
    send("SIGTERM").catch(() => undefined);
    later(GRACE_MS, () => {
      send("SIGKILL").catch(() => undefined);
      later(GIVE_UP_MS, () => this.#cancel.abort(error));
    });
  }
}

/** The status of a process that could not be started; undefined when it was something else. */
function startFailure(error: Error): number | undefined {
  const notStarted = error instanceof SandboxError && error.code === "process-not-started";
  return notStarted ? NOT_STARTED : notStartedStatus(error);
}

function ended(): SandboxError {
  return new SandboxError("not-found", "The process has ended; nobody reads its standard input", {
    errno: "EPIPE",
  });
}
