// Standard input of a process as a Web stream: what is written is handed to whoever sends it, one
// chunk at a time, and a write is done when its bytes have left this program's hands.
import { WritableStream } from "node:stream/web";
import { invalid } from "./validate.js";
import { type Deferred, deferred, handled } from "./wait.js";

/** What the user of such a stream can add. */
export interface InputOptions {
  /** What a chunk is called in errors. */
  readonly what: string;
  /** `close` resolves with this. */
  readonly finished?: () => Promise<void>;
  /** The writer has given up. */
  readonly aborted?: () => void;
}

/** The standard input of a process. The sender iterates over it. */
export class ProcessInput implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  readonly stream: WritableStream<Uint8Array | string>;
  #controller: WritableStreamDefaultController | undefined;
  #offered: Uint8Array | undefined;
  #written: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #sending = false;
  #closed = false;
  #error: Error | undefined;
  #wake: Deferred<void> | undefined;
  readonly #what: string;

  constructor(options: InputOptions = { what: "stdin chunk" }) {
    this.#what = options.what;
    this.stream = forgiving(
      new WritableStream<Uint8Array | string>({
        start: (controller) => {
          this.#controller = controller;
        },
        write: (chunk) => this.#write(chunk),
        close: () => {
          this.#close();
          return options.finished?.();
        },
        abort: () => {
          options.aborted?.();
          this.#close();
        },
      }),
    );
  }

  /** Nobody reads any more: writes reject with this, those under way too. */
  fail(error: Error): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    this.#written?.reject(error);
    this.#written = undefined;
    this.#controller?.error(error);
    this.#close();
  }

  /** For the sender: the next bytes. The bytes before have been sent. */
  async next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#sending) {
      this.#sending = false;
      this.#written?.resolve();
      this.#written = undefined;
    }
    while (this.#offered === undefined) {
      if (this.#closed) return { done: true, value: undefined };
      this.#wake = deferred();
      await this.#wake.promise;
    }
    const value = this.#offered;
    this.#offered = undefined;
    this.#sending = true;
    return { done: false, value };
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  #write(chunk: unknown): Promise<void> | undefined {
    if (typeof chunk !== "string" && !(chunk instanceof Uint8Array)) {
      this.#close();
      throw invalid(this.#what, "bytes or text", chunk);
    }
    const data = typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk;
    if (data.byteLength === 0) return undefined;
    if (this.#error !== undefined) throw this.#error;
    this.#offered = data;
    this.#wake?.resolve();
    return new Promise((resolve, reject) => {
      this.#written = { resolve, reject };
    });
  }

  #close(): void {
    this.#closed = true;
    this.#wake?.resolve();
  }
}

/** A stream whose writers' promises harm nobody when they reject and nobody awaits them. */
function forgiving<T>(stream: WritableStream<T>): WritableStream<T> {
  const getWriter = stream.getWriter.bind(stream);
  stream.getWriter = () => {
    const writer = getWriter();
    for (const name of ["write", "close", "abort"] as const) {
      const method = writer[name].bind(writer) as (value?: unknown) => Promise<void>;
      writer[name] = (value?: unknown) => handled(method(value));
    }
    return writer;
  };
  for (const name of ["close", "abort"] as const) {
    const method = stream[name].bind(stream) as (value?: unknown) => Promise<void>;
    stream[name] = (value?: unknown) => handled(method(value));
  }
  return stream;
}
