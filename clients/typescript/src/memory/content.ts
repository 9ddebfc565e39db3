// The bytes of a file, in pieces of at most 64 KiB, so that a write costs what it writes, whatever
// the size of the file. What was never written is not held; a piece holds one range of its 64 KiB,
// and what it holds is what the budget is charged.
import { fileError } from "../mounts/errno.js";
import type { Budget } from "./budget.js";

/** Bytes that a piece covers. */
const PIECE = 64 * 1024;
/** Steps in which a piece grows. */
const STEP = 4096;
/** The largest size of a file: what a double holds exactly. */
export const SIZE_MAX = Number.MAX_SAFE_INTEGER;

interface Piece {
  /** Where in the piece `data` begins. */
  start: number;
  /** Bytes of `data` that were written, or are zeros between what was. */
  used: number;
  data: Buffer;
}

/** The bytes of one file. */
export class Content {
  #size = 0;
  #held = 0;
  readonly #pieces = new Map<number, Piece>();
  readonly #budget: Budget;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes that are held, as the budget is charged. */
  get held(): number {
    return this.#held;
  }

  /** A copy of a range; shorter at the end of the file. */
  read(offset: number, length: number): Buffer {
    const end = Math.min(this.#size, offset + length);
    if (offset >= end) return Buffer.alloc(0);
    const result = Buffer.allocUnsafeSlow(end - offset);
    let at = offset;
    while (at < end) {
      const index = Math.floor(at / PIECE);
      const from = at - index * PIECE;
      const to = Math.min(PIECE, end - index * PIECE);
      const into = result.subarray(at - offset, at - offset + to - from);
      copyOut(this.#pieces.get(index), from, to, into);
      at = index * PIECE + to;
    }
    return result;
  }

  /**
   * Writes, and tells how many bytes: fewer than given when the budget ends in between. Throws EFBIG,
   * and ENOSPC when nothing of it found room.
   */
  write(offset: number, contents: Uint8Array): number {
    const end = offset + contents.byteLength;
    if (end === offset) return 0;
    if (end > SIZE_MAX) throw fileError("EFBIG", "the file would be too large");
    let at = offset;
    while (at < end) {
      const index = Math.floor(at / PIECE);
      const from = at - index * PIECE;
      const to = Math.min(PIECE, end - index * PIECE);
      const bytes = contents.subarray(at - offset, at - offset + to - from);
      try {
        this.#writePiece(index, from, bytes);
      } catch (error) {
        if (at === offset) throw error;
        break;
      }
      at = index * PIECE + to;
    }
    this.#size = Math.max(this.#size, at);
    return at - offset;
  }

  /** Cuts, or grows with zeros that are not held. */
  resize(size: number): void {
    if (size > SIZE_MAX) throw fileError("EFBIG", "the file would be too large");
    if (size < this.#size) {
      const first = Math.ceil(size / PIECE);
      const last = Math.floor((this.#size - 1) / PIECE);
      if (last - first < this.#pieces.size) {
        for (let index = first; index <= last; index++) this.#drop(index);
      } else {
        for (const index of [...this.#pieces.keys()]) if (index >= first) this.#drop(index);
      }
      if (size % PIECE !== 0) this.#cut(Math.floor(size / PIECE), size % PIECE);
    }
    this.#size = size;
  }

  #drop(index: number): void {
    const piece = this.#pieces.get(index);
    if (piece === undefined) return;
    this.#pieces.delete(index);
    this.#free(piece.data.byteLength);
  }

  /** Ends a piece; what is cut off is given back. */
  #cut(index: number, end: number): void {
    const piece = this.#pieces.get(index);
    if (piece === undefined || piece.start + piece.used <= end) return;
    if (end <= piece.start) {
      this.#drop(index);
      return;
    }
    piece.used = end - piece.start;
    const kept = Math.min(piece.data.byteLength, roundUp(piece.used));
    if (kept === piece.data.byteLength) return;
    this.#free(piece.data.byteLength - kept);
    const data = Buffer.allocUnsafeSlow(kept);
    piece.data.copy(data, 0, 0, piece.used);
    piece.data = data;
  }

  #writePiece(index: number, from: number, contents: Uint8Array): void {
    const end = from + contents.byteLength;
    let piece = this.#pieces.get(index);
    if (piece === undefined) {
      // The first write of a small file holds what it writes; a hole in a large one costs a step.
      const exact = index === 0 ? contents.byteLength : roundUp(contents.byteLength);
      const room = Math.min(exact, PIECE - from);
      piece = { start: from, used: 0, data: this.#allocate(contents.byteLength, room, 0) };
      this.#pieces.set(index, piece);
    } else if (from < piece.start || end > piece.start + piece.data.byteLength) {
      this.#grow(piece, from, end);
    }
    const at = from - piece.start;
    if (at > piece.used) piece.data.fill(0, piece.used, at);
    piece.data.set(contents, at);
    piece.used = Math.max(piece.used, at + contents.byteLength);
  }

  /** Makes room for a write from `from` to `end`. A write before what is held makes it begin at 0: it happens once. */
  #grow(piece: Piece, from: number, end: number): void {
    const start = from < piece.start ? 0 : piece.start;
    const needed = Math.max(end, piece.start + piece.used) - start;
    const room = Math.min(roundUp(needed), PIECE - start);
    const old = piece.data;
    const data = this.#allocate(needed, room, old.byteLength);
    const before = piece.start - start;
    data.fill(0, 0, before);
    old.copy(data, before, 0, piece.used);
    piece.used += before;
    piece.start = start;
    piece.data = data;
  }

  /** A buffer of `room` bytes, or of only what is needed where the budget has no more, in place of one of `held`. */
  #allocate(needed: number, room: number, held: number): Buffer {
    const size = room - held <= this.#budget.bytesFree ? room : needed;
    const more = size - held;
    if (more >= 0) this.#take(more);
    else this.#free(-more);
    return Buffer.allocUnsafeSlow(size);
  }

  #take(count: number): void {
    this.#budget.takeBytes(count);
    this.#held += count;
  }

  #free(count: number): void {
    this.#budget.freeBytes(count);
    this.#held -= count;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / STEP) * STEP;
}

/** Copies a range of a piece; what it does not hold is zeros. */
function copyOut(piece: Piece | undefined, from: number, to: number, into: Buffer): void {
  const first = Math.max(from, piece?.start ?? to);
  const last = Math.min(to, piece === undefined ? 0 : piece.start + piece.used);
  if (piece === undefined || first >= last) {
    into.fill(0);
    return;
  }
  into.fill(0, 0, first - from);
  piece.data.copy(into, first - from, first - piece.start, last - piece.start);
  into.fill(0, last - from);
}
