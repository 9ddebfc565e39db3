/** Reading and writing the Web streams of processes. */

import { text } from "node:stream/consumers";
import type { ReadableStream } from "node:stream/web";

/** Everything of a stream, as text. */
export function all(stream: ReadableStream<Uint8Array>): Promise<string> {
  return text(stream);
}

/** Reads a stream piece by piece, as text, until something has come. */
export class Reading {
  readonly #reader;
  readonly #decoder = new TextDecoder();
  /** What has come and was not waited for yet. */
  rest = "";

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** Waits until `wanted` has come; returns what came before and takes both out. */
  async until(wanted: string | RegExp): Promise<RegExpMatchArray> {
    const pattern = typeof wanted === "string" ? literal(wanted) : wanted;
    for (;;) {
      const match = pattern.exec(this.rest);
      if (match !== null) {
        this.rest = this.rest.slice(match.index + match[0].length);
        return match;
      }
      const { done, value } = await this.#reader.read();
      if (done) throw new Error(`the stream ended before ${pattern}: ${JSON.stringify(this.rest)}`);
      this.rest += this.#decoder.decode(value, { stream: true });
    }
  }

  /** Reads to the end. */
  async end(): Promise<string> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return this.rest;
      this.rest += this.#decoder.decode(value, { stream: true });
    }
  }
}

function literal(text: string): RegExp {
  return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
}
