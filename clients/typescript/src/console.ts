// The guest's console as the client sees it: bytes become text across chunk borders, the last 16 KiB
// are kept for errors, and the caller's callback gets everything. The callback cannot do harm.
import { inspect } from "node:util";
import type { EventHub } from "./events.js";

/** Characters of the console that are kept. */
const KEPT = 16 * 1024;

/** Takes the text of the guest's console as it comes. */
export type ConsoleCallback = (text: string) => void;

/** The console of one lane. */
export class GuestConsole {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #callback: ConsoleCallback | undefined;
  readonly #events: EventHub;
  #tail = "";

  constructor(callback: ConsoleCallback | undefined, events: EventHub) {
    this.#callback = callback;
    this.#events = events;
  }

  /** The last lines, 16 KiB at most. */
  get tail(): string {
    return this.#tail;
  }

  /** Takes a piece of output; `skipped` bytes before it are lost. */
  write(data: Uint8Array, skipped: bigint): void {
    if (skipped > 0n)
      this.#events.warn(`${skipped} bytes of console output came too fast and were left out`);
    const text = this.#decoder.decode(data, { stream: true });
    if (text === "") return;
    this.#tail = (this.#tail + text).slice(-KEPT);
    if (this.#callback === undefined) return;
    try {
      const result: unknown = this.#callback(text);
      Promise.resolve(result).catch((error: unknown) => this.#complain(error));
    } catch (error) {
      this.#complain(error);
    }
  }

  #complain(error: unknown): void {
    const message = error instanceof Error ? error.message : inspect(error, { depth: 0 });
    this.#events.warn(`The console callback threw: ${message.slice(0, 1000)}`);
  }
}
