// Ctrl-C and its like during `lanebox run`. The first aborts a boot, or sends SIGTERM to the guest's
// process group and SIGKILL after a grace; the second kills the VM and ends the program at once.
import { constants } from "node:os";
import { onAbort } from "../abort.js";
import { AbortError } from "../errors.js";
import type { Lane } from "../lane.js";

/** What a process group gets between SIGTERM and SIGKILL, and between that and giving up. */
const GRACE_MS = 2000;
const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The signals of one run. */
export class Interrupt {
  readonly #boot = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #handlers = signals.map((name) => [name, () => this.#take(name)] as const);
  #lane: Lane | undefined;
  #pid: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** 128+n once signal n has come. */
  status: number | undefined;

  constructor() {
    for (const [name, handler] of this.#handlers) process.on(name, handler);
  }

  /** Aborts a boot. */
  get signal(): AbortSignal {
    return this.#boot.signal;
  }

  /** Aborts a run whose process does not end by signals, or has not begun. */
  get giveUp(): AbortSignal {
    return this.#giveUp.signal;
  }

  /** The boot is over: this is the VM. */
  holds(lane: Lane): void {
    this.#lane = lane;
    if (this.status !== undefined) this.#giveUp.abort();
  }

  /** The guest's process runs. */
  started(pid: number): void {
    this.#pid = pid;
    if (this.status !== undefined) this.#terminate(pid);
  }

  /** The same promise, given up together with the run: a reader that never reads holds nothing. */
  async race(promise: Promise<void>): Promise<void> {
    let stop = () => {};
    const givenUp = new Promise<never>((_, reject) => {
      stop = onAbort(this.giveUp, () => reject(new AbortError(this.giveUp)));
    });
    try {
      await Promise.race([promise, givenUp]);
    } finally {
      stop();
    }
  }

  /** Gives the signals back. */
  dispose(): void {
    clearTimeout(this.#timer);
    for (const [name, handler] of this.#handlers) process.off(name, handler);
  }

  #take(name: (typeof signals)[number]): void {
    if (this.status !== undefined) {
      this.#lane?.kill();
      process.exit(this.status); // a helper that is still booting ends with its connection
    }
    this.status = 128 + constants.signals[name];
    this.#boot.abort();
    if (this.#pid !== undefined) this.#terminate(this.#pid);
    else this.#giveUp.abort();
  }

  #terminate(pid: number): void {
    this.#send(pid, "SIGTERM");
    this.#timer = setTimeout(() => {
      this.#send(pid, "SIGKILL");
      this.#timer = setTimeout(() => this.#giveUp.abort(), GRACE_MS);
    }, GRACE_MS);
  }

  #send(pid: number, name: string): void {
    // It fails when the process has just ended, or the VM has: the run tells of both.
    this.#lane?.signalProcess(pid, name).catch(() => undefined);
  }
}
