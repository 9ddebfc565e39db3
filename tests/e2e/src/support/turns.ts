/** How long the event loop is busy at a time. */

import { readFileSync } from "node:fs";

/** Nanoseconds that this program's main thread has had a processor for (Linux, sched-stats). */
function busyNanos(): number {
  const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, "latin1");
  return Number(text.split(" ")[0]);
}

/**
 * Measures the processor time of the busiest turn of the event loop, which is its length on a machine
 * with nothing else to do: on a loaded one a turn takes longer without doing more. A timer is due in
 * each turn, so between two of them there is one turn, and at most a millisecond of others.
 */
export class Turns {
  #most = 0;
  #last = busyNanos();
  readonly #timer = setInterval(() => this.#note(), 1);

  #note(): void {
    const now = busyNanos();
    this.#most = Math.max(this.#most, now - this.#last);
    this.#last = now;
  }

  /** Ends the measurement; milliseconds of the busiest turn. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#most / 1e6;
  }
}
