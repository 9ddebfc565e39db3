// What a tree may hold: bytes of content, and names.
import { fileError } from "../mounts/errno.js";

/** Counts what is held against its limits. */
export class Budget {
  readonly maxBytes: number;
  readonly maxNames: number;
  #bytes = 0;
  #names = 0;

  constructor(maxBytes: number, maxNames: number) {
    this.maxBytes = maxBytes;
    this.maxNames = maxNames;
  }

  get bytesFree(): number {
    return this.maxBytes - this.#bytes;
  }

  get namesFree(): number {
    return this.maxNames - this.#names;
  }

  /** Takes bytes. Throws ENOSPC and takes none when there are not as many. */
  takeBytes(count: number): void {
    if (count > this.bytesFree) throw fileError("ENOSPC", `more than ${this.maxBytes} bytes`);
    this.#bytes += count;
  }

  /** Gives bytes back. */
  freeBytes(count: number): void {
    this.#bytes -= count;
  }

  /** Takes a name. Throws ENOSPC when there is none left. */
  takeName(): void {
    if (this.#names >= this.maxNames) throw fileError("ENOSPC", `more than ${this.maxNames} files`);
    this.#names += 1;
  }

  /** Gives a name back. */
  freeName(): void {
    this.#names -= 1;
  }
}
