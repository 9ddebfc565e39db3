// What a stream of callbacks sends: answers in the order in which they are ready. The transport takes
// one message after the other, no faster than the host reads.
import { deferred } from "../wait.js";

interface Waiting<Request> {
  readonly request: Request;
  readonly taken: () => void;
}

/** The requests of one stream. */
export class Outbox<Request> {
  #waiting: Waiting<Request>[] = [];
  #wake = deferred<void>();
  #closed = false;
  readonly #more: () => Request | undefined;

  /** Sends what comes first; `more` gives what waits elsewhere, whenever nothing else does. */
  constructor(first: Request, more: () => Request | undefined = () => undefined) {
    this.#waiting.push({ request: first, taken: () => undefined });
    this.#more = more;
  }

  /** Sends; resolves when the transport has taken it, or when nothing is sent any more. */
  send(request: Request): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((taken) => {
      this.#waiting.push({ request, taken });
      this.#wake.resolve();
    });
  }

  /** Has `more` asked. */
  wake(): void {
    this.#wake.resolve();
  }

  /** Sends nothing more; what waits is dropped. */
  close(): void {
    this.#closed = true;
    for (const { taken } of this.#waiting) taken();
    this.#waiting = [];
    this.#wake.resolve();
  }

  /** The messages, for the transport. */
  async *messages(): AsyncGenerator<Request, void> {
    for (;;) {
      if (this.#closed) return;
      const batch = this.#waiting;
      this.#waiting = [];
      for (const { request, taken } of batch) {
        yield request;
        taken();
      }
      const more = this.#more();
      if (more !== undefined) yield more;
      else if (batch.length === 0) {
        await this.#wake.promise;
        this.#wake = deferred();
      }
    }
  }
}
