// One decision of a callback: given at most once, and only while the callback runs.
import { SandboxError } from "../errors.js";

/** A decision to be made. */
export class Verdict<T> {
  readonly #what: string;
  readonly #signal: AbortSignal;
  #given: T | undefined;
  #closed = false;
  #problem: string | undefined;

  /** About `what`, such as "flow"; nobody waits for it any more once `signal` has fired. */
  constructor(what: string, signal: AbortSignal) {
    this.#what = what;
    this.#signal = signal;
  }

  /** Decides. Throws when that was done, or comes too late; a second decision spoils the first. */
  give(decision: T): void {
    if (this.#closed) throw late(this.#what, "its callback has returned");
    if (this.#signal.aborted) {
      throw late(this.#what, "its deadline has passed, or it is not waited for any more");
    }
    if (this.#given !== undefined) {
      this.#problem = `The ${this.#what} was decided about twice`;
      throw new SandboxError("invalid-state", `${this.#problem}: one decision is all it gets`);
    }
    this.#given = decision;
  }

  /** Takes no decision any more. */
  close(): void {
    this.#closed = true;
  }

  /** What was decided, if anything was. */
  get decision(): T | undefined {
    return this.#given;
  }

  /** What was wrong with the decision. */
  get problem(): string | undefined {
    return this.#problem;
  }
}

function late(what: string, why: string): SandboxError {
  return new SandboxError("invalid-state", `The decision about the ${what} came too late: ${why}`);
}
