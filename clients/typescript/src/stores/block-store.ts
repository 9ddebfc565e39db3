// The interface of a block store that the caller's program serves, and its check.
import { type Check, invalid, invalidUnseen } from "../validate.js";

/** Some whole blocks that follow one another. */
export interface SandboxBlockChunk {
  /** Number of the first block. */
  readonly start: bigint;
  /** One or more whole blocks. */
  readonly data: Uint8Array;
}

/** For whom a store works. */
export interface SandboxBlockContext {
  /** The exact base image, by its digest. Blocks over one base mean nothing over another. */
  readonly base: string;
  /** Larger for each later boot: a store can refuse a writer below the largest it has seen. */
  readonly generation: bigint;
  /** Fires when nobody waits for the answer any more: its deadline has passed, or the VM has ended. */
  readonly signal: AbortSignal;
}

/** Blocks in a row. */
export interface SandboxBlockRange {
  /** Number of the first. */
  readonly start: bigint;
  /** How many. */
  readonly count: number;
}

/**
 * Keeps the blocks of a root disk that the guest has changed. Calls come side by side, but never two
 * changes of one block. A call may be repeated after it failed or its signal fired, and must then have
 * the same outcome. A call that rejects becomes an I/O error of the guest and a `store-error` event;
 * a call has 15 s.
 */
export interface SandboxBlockStore {
  /** Bytes of a block: a multiple of 512, 4 MiB at most. */
  readonly blockSize: number;
  /** Numbers of the blocks that are present, each once, in any order. */
  list(context: SandboxBlockContext): Promise<readonly bigint[]>;
  /** The blocks of a range, all of which are present: 1 MiB or one block. */
  read(
    range: SandboxBlockRange,
    context: SandboxBlockContext,
  ): Promise<readonly SandboxBlockChunk[]>;
  /** Keeps blocks: 4 MiB or one block. The store may keep the arrays. */
  write(chunks: readonly SandboxBlockChunk[], context: SandboxBlockContext): Promise<void>;
  /** Makes durable what was written. A store without it makes every write durable at once. */
  flush?(context: SandboxBlockContext): Promise<void>;
  /** Makes blocks absent: 16384 at most. */
  discard?(blocks: readonly bigint[], context: SandboxBlockContext): Promise<void>;
}

const BLOCK_MAX = 4 * 1024 * 1024;

/** The check of an option that takes a store. The object itself is kept: its methods are its own. */
export const blockStore: Check<SandboxBlockStore> = (value, path) => {
  if (typeof value !== "object" || value === null) throw invalid(path, "a block store", value);
  const store = value as Record<keyof SandboxBlockStore, unknown>;
  const size = store.blockSize;
  if (typeof size !== "number" || size <= 0 || size % 512 !== 0 || size > BLOCK_MAX) {
    throw invalid(`${path}.blockSize`, "a multiple of 512 up to 4194304", size);
  }
  for (const method of ["list", "read", "write"] as const) {
    if (typeof store[method] !== "function")
      throw invalidUnseen(`${path}.${method}`, "expected a method");
  }
  for (const method of ["flush", "discard"] as const) {
    const given = store[method];
    if (given !== undefined && typeof given !== "function") {
      throw invalid(`${path}.${method}`, "a method, or nothing", given);
    }
  }
  return value as SandboxBlockStore;
};
