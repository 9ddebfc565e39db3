// What a block store answers, checked once, as the protocol has it. That the blocks are the ones that
// were asked for is checked by the host.
import type { BlockStoreAnswer } from "../gen/lanebox/v1/block_store_pb.js";
import { show } from "../mounts/answers.js";

/** What a question can be answered with. */
export type StoreAnswer = BlockStoreAnswer["answer"];

/** Numbers in one piece of a list. */
const PIECE = 16 * 1024;
const U64_MAX = 2n ** 64n - 1n;

/** The answer of a call that has nothing to tell. */
export const DONE: StoreAnswer = {
  case: "done",
  value: { $typeName: "lanebox.v1.BlockStoreDone" },
};

/** The pieces of a list; the event loop has its turn after each that was sent. */
export function* numberPieces(given: unknown): Generator<StoreAnswer> {
  if (!Array.isArray(given)) throw new Error(`list answered ${show(given)}, not an array`);
  let start = 0;
  do {
    const blocks = given.slice(start, start + PIECE);
    for (const block of blocks) {
      if (typeof block !== "bigint" || block < 0n || block >= U64_MAX) {
        throw new Error(`list answered ${show(block)} as the number of a block`);
      }
    }
    start += PIECE;
    const more = start < given.length;
    yield { case: "numbers", value: { $typeName: "lanebox.v1.BlockNumbers", blocks, more } };
  } while (start < given.length);
}

/** Blocks that were read: no more bytes than were asked for. */
export function chunksAnswer(given: unknown, blockSize: number, count: number): StoreAnswer {
  if (!Array.isArray(given)) throw new Error(`read answered ${show(given)}, not an array`);
  if (given.length > count)
    throw new Error(`read answered ${given.length} chunks for ${count} blocks`);
  let length = 0;
  const chunks = given.map((chunk: unknown) => {
    const { start, data } = (chunk ?? {}) as { start?: unknown; data?: unknown };
    if (typeof start !== "bigint" || start < 0n || start > U64_MAX) {
      throw new Error(`read answered ${show(start)} as the number of a block`);
    }
    if (!(data instanceof Uint8Array)) throw new Error(`read answered ${show(data)} as data`);
    length += data.byteLength;
    if (length > count * blockSize) {
      throw new Error(`read answered more than the ${count * blockSize} bytes that were asked for`);
    }
    return { $typeName: "lanebox.v1.BlockChunk" as const, start, data };
  });
  return { case: "chunks", value: { $typeName: "lanebox.v1.BlockChunks", chunks } };
}
