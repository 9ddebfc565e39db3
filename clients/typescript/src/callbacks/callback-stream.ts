// One stream of callbacks of one VM: what is the same for mounts, block stores and network policies.
//
//   host ── call ──► serve ──► the caller's method ──► checked answer ── Outbox ──► host
//        ── cancel ► the method's signal fires; its credit is held until it settles
//
// Questions are put as they come and answered as they are ready. Nothing here throws or rejects but
// `attached`.
import { deferred } from "../wait.js";
import type { Outbox } from "./outbox.js";

/** What the host sends; `Told` is what only one kind of stream has. */
export interface HostMessage<Call, Told = never> {
  readonly response:
    | Told
    | { readonly case: "attached"; readonly value: unknown }
    | { readonly case: "call"; readonly value: Call }
    | { readonly case: "cancel"; readonly value: { readonly id: bigint } }
    | { readonly case: undefined; readonly value?: undefined };
}

/** Opens the call. */
export type OpenStream<Request, Call, Told = never> = (
  messages: AsyncIterable<Request>,
  options: { signal: AbortSignal },
) => AsyncIterable<HostMessage<Call, Told>>;

/** What one kind of stream does. */
export interface StreamDuties<Call, Told = never> {
  /** For people, such as "a mount". */
  readonly what: string;
  /** Answers a question. Must not reject. */
  readonly serve: (call: Call, signal: AbortSignal) => Promise<void>;
  /** The host has taken the stream. */
  readonly taken?: () => void;
  /** Takes what only this kind of stream has. */
  readonly told?: (message: Told) => void;
  /** A question that was answered already is of no interest. */
  readonly cancelledLate?: (id: bigint) => void;
  /** It has ended; by what, unless `end` was called or the host ended it in good order. */
  readonly ended?: (failure: unknown) => void;
}

/** A message that only one kind of stream has. */
export interface ToldMessage {
  readonly case: string;
  readonly value: unknown;
}

/** One stream of callbacks. */
export class CallbackStream<
  Request,
  Call extends { readonly id: bigint },
  Told extends ToldMessage = never,
> {
  /** Resolves when the host has taken the stream; rejects with the call's error when it does not. */
  readonly attached: Promise<void>;
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  readonly #outbox: Outbox<Request>;
  readonly #duties: StreamDuties<Call, Told>;
  readonly #open = new Map<bigint, AbortController>();
  readonly #call = new AbortController();
  readonly #taken = deferred<void>();

  constructor(
    open: OpenStream<Request, Call, Told>,
    outbox: Outbox<Request>,
    duties: StreamDuties<Call, Told>,
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

  async #follow(open: OpenStream<Request, Call, Told>): Promise<void> {
    const messages = this.#outbox.messages();
    let failure: unknown;
    try {
      for await (const message of open(messages, { signal: this.#call.signal })) {
        this.#take(message);
      }
    } catch (error) {
      if (!this.#call.signal.aborted) failure = error;
      throw error;
    } finally {
      this.end();
      this.#duties.ended?.(failure);
      for (const question of this.#open.values()) question.abort();
      this.#open.clear();
    }
  }

  #take({ response }: HostMessage<Call, Told>): void {
    const message = response as HostMessage<Call>["response"];
    switch (message.case) {
      case "attached":
        this.#taken.resolve();
        this.#duties.taken?.();
        break;
      case "call":
        void this.#serve(message.value);
        break;
      case "cancel": {
        const question = this.#open.get(message.value.id);
        if (question === undefined) this.#duties.cancelledLate?.(message.value.id);
        else question.abort();
        break;
      }
      case undefined:
        break;
      default:
        this.#duties.told?.(response as Told);
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
