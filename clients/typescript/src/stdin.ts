// Where a process's standard input comes from: text, bytes, a Web stream or any async iterable, as
// pieces that fit a message. Nothing is read before it is asked for.
import type { ReadableStream } from "node:stream/web";
import { invalid } from "./validate.js";

/**
 * Standard input of a process: text (sent as UTF-8), bytes, or a source of bytes that is read no
 * faster than the process reads. Chunks of an async iterable may be text too.
 */
export type StdinSource =
  | string
  | Uint8Array
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | string>;

/** Bytes of one piece. */
const PIECE = 256 * 1024;

/** Reads a source piece by piece. */
export class StdinReader {
  readonly #next: () => Promise<IteratorResult<unknown, unknown>>;
  readonly #cancel: () => unknown;
  readonly #path: string;
  #rest: Uint8Array = new Uint8Array();
  #released = false;

  /** `path` names the option in errors. */
  constructor(source: StdinSource, path: string) {
    this.#path = path;
    if (typeof source === "string" || source instanceof Uint8Array) {
      this.#rest = bytesOf(source, path);
      this.#next = async () => ({ done: true, value: undefined });
      this.#cancel = () => undefined;
    } else if ("getReader" in source) {
      const reader = source.getReader();
      this.#next = () => reader.read() as Promise<IteratorResult<unknown, unknown>>;
      this.#cancel = () => reader.cancel();
    } else {
      const iterator = source[Symbol.asyncIterator]();
      this.#next = () => iterator.next();
      this.#cancel = () => iterator.return?.();
    }
  }

  /** The next bytes, 256 KiB at most; undefined at the end. Rejects with the source's error. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#rest.byteLength === 0) {
      if (this.#released) return undefined;
      const result = await this.#next();
      if (result.done) return undefined;
      this.#rest = bytesOf(result.value, `${this.#path} chunk`);
    }
    const piece = this.#rest.subarray(0, PIECE);
    this.#rest = this.#rest.subarray(PIECE);
    return piece;
  }

  /** Nothing is read any more: lets the source go, without waiting for it. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#rest = new Uint8Array();
    // A source may throw here, or hang in a read that nobody ends: neither is of interest any more.
    Promise.resolve()
      .then(this.#cancel)
      .catch(() => undefined);
  }
}

/** The check of an option that takes a source. */
export function stdinSource(value: unknown, path: string): StdinSource {
  if (typeof value === "string" || value instanceof Uint8Array) return value;
  if (typeof value === "object" && value !== null) {
    const isStream = typeof (value as ReadableStream).getReader === "function";
    if (isStream && (value as ReadableStream).locked) {
      throw invalid(path, "a stream that nobody else reads", value);
    }
    if (isStream || Symbol.asyncIterator in value) return value as StdinSource;
  }
  throw invalid(path, "a string, a Uint8Array, a ReadableStream or an async iterable", value);
}

function bytesOf(chunk: unknown, path: string): Uint8Array {
  if (typeof chunk === "string") return Buffer.from(chunk, "utf8");
  if (chunk instanceof Uint8Array) return chunk;
  throw invalid(path, "bytes or text", chunk);
}
