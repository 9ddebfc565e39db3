// A directory's entries in pieces: no message is large, the event loop gets its turn between two,
// and the next is made only when the one before is on its way.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DirectoryEntry as WireEntry } from "../gen/lanebox/v1/filesystem_pb.js";
import { entryAnswer, show, WrongAnswer } from "./answers.js";
import type { DirectoryEntry } from "./file-system.js";
import { binary } from "./names.js";

/** Entries of a piece, at most; each is 400 bytes at most. */
const PIECE = 512;
/** Entries of a directory, at most; what the host takes. */
const ENTRIES_MAX = 262_144;

/** The pieces of a directory. Throws a WrongAnswer where an entry cannot be, or a name comes twice. */
export async function* pieces(
  entries: Iterable<DirectoryEntry>,
): AsyncGenerator<{ entries: WireEntry[]; more: boolean }, void> {
  const given: unknown = entries;
  if (typeof given !== "object" || given === null || !(Symbol.iterator in given)) {
    throw new WrongAnswer(`it is ${show(given)}, not an array`);
  }
  const names = new Set<string>();
  let piece: WireEntry[] = [];
  for (const entry of entries) {
    if (piece.length === PIECE) {
      yield { entries: piece, more: true };
      await nextTurn();
      piece = [];
    }
    const checked = entryAnswer(entry);
    const name = binary(checked.name);
    if (names.has(name)) throw new WrongAnswer(`it has ${show(name)} twice`);
    if (names.size === ENTRIES_MAX)
      throw new WrongAnswer(`it has more than ${ENTRIES_MAX} entries`);
    names.add(name);
    piece.push(checked);
  }
  yield { entries: piece, more: false };
}
