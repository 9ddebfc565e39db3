// What happens to a VM, as typed events, and their way to any number of readers. Memory is bounded:
// a reader that is too slow loses the oldest events and is told how many.
import type { NetworkVmEvent } from "./network/audit.js";
import { type Deferred, deferred } from "./wait.js";

/** Where a VM is in its life. */
export type VmState = "booting" | "running" | "closing" | "exited";

/**
 * Why a VM ended.
 *
 * | reason | meaning |
 * |---|---|
 * | `closed` | `close()` was called and the guest stopped |
 * | `killed` | `close()` was called, and the guest did not stop in time and was killed |
 * | `guest-stopped` | the guest stopped or restarted by itself |
 * | `guest-panicked` | the guest's kernel panicked |
 * | `engine-failed` | the engine's process ended by a signal or with a failure |
 * | `boot-failed` | the VM did not come up |
 * | `helper-exited` | the helper process died, or was killed by somebody else |
 */
export type ClosedReason =
  | "closed"
  | "killed"
  | "guest-stopped"
  | "guest-panicked"
  | "engine-failed"
  | "boot-failed"
  | "helper-exited";

/**
 * What went wrong at a mount.
 *
 * | problem | meaning |
 * |---|---|
 * | `deadline` | a call was not answered in time; the guest got EIO |
 * | `wrong-answer` | a callback threw something else than a Linux error, or answered what cannot be; the guest got EIO, or what made sense |
 * | `limit` | a limit refused something; told when it does so for the first time |
 * | `detached` | the mount is not served any more; the guest gets EIO from now on |
 * | `watch` | changes of the host cannot be followed, or not all of them |
 * | `unknown` | something that this version does not know; the message tells it |
 */
export type MountProblem = "deadline" | "wrong-answer" | "limit" | "detached" | "watch" | "unknown";

/** What a store of a root's changes is asked: to give blocks, to keep them, or to make them durable. */
export type StoreOperation = "read" | "write" | "flush" | "unknown";

/** One event; `type` tells which. `at` is the host's time in milliseconds since the Unix epoch. */
export type VmEvent = { readonly at: number } & (
  | {
      /** The VM has a new state. */
      readonly type: "lifecycle";
      readonly state: VmState;
    }
  | {
      /** A step of the boot has begun. */
      readonly type: "boot-step";
      readonly step: string;
    }
  | {
      /** Something that the owner should know and that ends nothing. */
      readonly type: "warning";
      readonly message: string;
    }
  | {
      /** Something went wrong at a mount. The guest got an error where the problem says so. */
      readonly type: "mount-error";
      /** Where it is mounted. */
      readonly target: string;
      readonly problem: MountProblem;
      /** A path within the mount, when it was about one. It comes from the guest. */
      readonly path?: string;
      readonly message: string;
    }
  | {
      /**
       * The store of the root's changes fails, told once for each operation, or works again. What it
       * did not take is kept and tried again; the guest gets I/O errors where that does not help.
       */
      readonly type: "store-error";
      readonly operation: StoreOperation;
      /** True when it works again. */
      readonly recovered: boolean;
      readonly message: string;
    }
  | NetworkVmEvent
  | {
      /** The VM has ended. The last event. */
      readonly type: "exited";
      readonly reason: ClosedReason;
      readonly message: string;
      /** Exit status of the engine (or of the helper, for `helper-exited`), when it exited by itself. */
      readonly exitCode?: number;
      /** Name of the signal that ended it, such as `SIGKILL`. */
      readonly signal?: string;
    }
  | {
      /** This reader was too slow; so many events before the next one are lost to it. */
      readonly type: "events-dropped";
      readonly count: number;
    }
);

/** Events that a new reader gets of what happened before it came. */
const HISTORY = 64;
/** Events that wait for a reader. */
const BUFFER = 256;

/** Takes events and gives them to every reader. */
export class EventHub {
  #history: VmEvent[] = [];
  #readers = new Set<EventReader>();
  #ended = false;

  /** Gives an event to every reader. After `end` it is dropped. */
  emit(event: VmEvent): void {
    if (this.#ended) return;
    this.#history.push(event);
    if (this.#history.length > HISTORY) this.#history.shift();
    for (const reader of this.#readers) reader.push(event);
  }

  /** Emits a warning. */
  warn(message: string): void {
    this.emit({ type: "warning", message, at: Date.now() });
  }

  /** No event comes any more: readers end once they have read what waits for them. */
  end(): void {
    this.#ended = true;
    for (const reader of this.#readers) reader.finish();
    this.#readers.clear();
  }

  /** A new reader. It begins with the last events that were, 64 at most. */
  read(): AsyncIterableIterator<VmEvent> {
    const reader = new EventReader([...this.#history], () => this.#readers.delete(reader));
    if (this.#ended) reader.finish();
    else this.#readers.add(reader);
    return reader;
  }
}

class EventReader implements AsyncIterableIterator<VmEvent> {
  #waiting: VmEvent[];
  #dropped = 0;
  #finished = false;
  #wake: Deferred<void> | undefined;
  readonly #leave: () => void;

  constructor(history: VmEvent[], leave: () => void) {
    this.#waiting = history;
    this.#leave = leave;
  }

  push(event: VmEvent): void {
    this.#waiting.push(event);
    if (this.#waiting.length > BUFFER) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#wakeUp();
  }

  finish(): void {
    this.#finished = true;
    this.#wakeUp();
  }

  async next(): Promise<IteratorResult<VmEvent>> {
    for (;;) {
      if (this.#dropped > 0) {
        const count = this.#dropped;
        this.#dropped = 0;
        return { done: false, value: { type: "events-dropped", count, at: Date.now() } };
      }
      const value = this.#waiting.shift();
      if (value !== undefined) return { done: false, value };
      if (this.#finished) return { done: true, value: undefined };
      this.#wake ??= deferred();
      await this.#wake.promise;
    }
  }

  async return(): Promise<IteratorResult<VmEvent>> {
    this.#leave();
    this.#waiting = [];
    this.#dropped = 0;
    this.finish();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<VmEvent> {
    return this;
  }

  #wakeUp(): void {
    this.#wake?.resolve();
    this.#wake = undefined;
  }
}
