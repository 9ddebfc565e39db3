// The options and the result of copyIn and copyOut.
import { abortSignal, callback, object, optional } from "./validate.js";

/** How far a copy is. */
export interface CopyProgress {
  /** Files, directories and symlinks that are done or under way. */
  readonly entries: number;
  /** Bytes of files that have passed; holes count. */
  readonly bytes: number;
}

/** Options of a copy. */
export interface CopyOptions {
  /** Aborting rejects with an `AbortError`; what was copied stays. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of the progress after each piece. What it throws ends the copy. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
}

/** What a copy did. */
export interface CopyResult extends CopyProgress {
  /** FIFOs, sockets and devices that were left out. */
  readonly skipped: number;
}

/** The check of the options of a copy. */
export const checkCopyOptions = object({
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: CopyProgress) => void>()),
});

/** Checked options. */
export type CheckedCopyOptions = ReturnType<typeof checkCopyOptions>;

/** Counts what a copy does. */
export class CopyCount {
  entries = 0;
  bytes = 0;
  skipped = 0;
  readonly #tell: ((progress: CopyProgress) => void) | undefined;

  constructor(options: CheckedCopyOptions) {
    this.#tell = options.onProgress;
  }

  /** One more entry. */
  entry(): void {
    this.entries += 1;
    this.#told();
  }

  /** More bytes. */
  content(bytes: number): void {
    this.bytes += bytes;
    this.#told();
  }

  /** The result. */
  result(): CopyResult {
    const { entries, bytes, skipped } = this;
    return { entries, bytes, skipped };
  }

  #told(): void {
    this.#tell?.({ entries: this.entries, bytes: this.bytes });
  }
}
