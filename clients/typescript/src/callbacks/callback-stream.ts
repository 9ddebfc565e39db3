// One stream of callbacks of one VM: what is the same for mounts and for block stores.
//
//   host ── call ──► serve ──► the caller's method ──► checked answer ── Outbox ──► host
//        ── cancel ► the method's signal fires; its credit is held until it settles
//
// Questions are put as they come and answered as they are ready. Nothing here throws or rejects but
// `attached`.
import { deferred } from "../wait.js";
import type { Outbox } from "./outbox.js";

/** What the host sends. */
export interface HostMessage<Call> {
  readonly response:
    | { readonly case: "attached"; readonly value: unknown }
    | { readonly case: "call"; readonly value: Call }
    | { readonly case: "cancel"; readonly value: { readonly id: bigint } }
    | { readonly case: undefined; readonly value?: undefined };
}

/** Opens the call. */
export type OpenStream<Request, Call> = (
  messages: AsyncIterable<Request>,
  options: { signal: AbortSignal },
) => AsyncIterable<HostMessage<Call>>;

/** What one kind of stream does. */
export interface StreamDuties<Call> {
  /** For people, such as "a mount". */
  readonly what: string;
  /** Answers a question. Must not reject. */
  readonly serve: (call: Call, signal: AbortSignal) => Promise<void>;
  /** The host has taken the stream. */
  readonly taken?: () => void;
  /** It has ended. */
  readonly ended?: () => void;
}

/** One stream of callbacks. */
export class CallbackStream<Request, Call extends { readonly id: bigint }> {
  /** Resolves when the host has taken the stream; rejects with the call's error when it does not. */
  readonly attached: Promise<void>;
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  readonly #outbox: Outbox<Request>;
  readonly #duties: StreamDuties<Call>;
  readonly #open = new Map<bigint, AbortController>();
  readonly #call = new AbortController();
  readonly #taken = deferred<void>();

  constructor(
    open: OpenStream<Request, Call>,
    outbox: Outbox<Request>,
    duties: StreamDuties<Call>,
  ) {
    this.#outbox = outbox;
    this.#duties = duties;
    const stream = this.#follow(open);
    this.done = stream.catch(() => undefined);
    const ended = () => {
      throw new Error(`The helper ended the stream of ${duties.what} before it took it`);
    };
    this.attached = Promise.race([this.#taken.promise, stream.then(ended)]);
    this.attached.catch(() => undefined);
  }

  /** Ends the stream. The methods that are under way see their signals fire. */
  end(): void {
    this.#call.abort();
    this.#outbox.close();
  }

  async #follow(open: OpenStream<Request, Call>): Promise<void> {
    const messages = this.#outbox.messages();
    try {
      for await (const message of open(messages, { signal: this.#call.signal })) {
        this.#take(message);
      }
    } finally {
      this.end();
      this.#duties.ended?.();
      for (const question of this.#open.values()) question.abort();
      this.#open.clear();
    }
  }

  #take({ response }: HostMessage<Call>): void {
    switch (response.case) {
      case "attached":
        this.#taken.resolve();
        this.#duties.taken?.();
        break;
      case "call":
        void this.#serve(response.value);
        break;
      case "cancel":
        this.#open.get(response.value.id)?.abort();
        break;
    }
  }

  async #serve(call: Call): Promise<void> {
    const control = new AbortController();
    this.#open.set(call.id, control);
    try {
      await this.#duties.serve(call, control.signal);
    } finally {
      this.#open.delete(call.id);
    }
  }
}
