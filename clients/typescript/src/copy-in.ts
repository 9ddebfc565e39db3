// copyIn: a tree of the host, read here, made in the guest by one WriteTree call.
import type { BigIntStats, Dirent } from "node:fs";
import { constants, lstat, open, opendir, readlink } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { type CheckedCopyOptions, CopyCount, type CopyResult } from "./copy-options.js";
import {
  type TreePiece,
  type WriteTreeRequest,
  WriteTreeRequestSchema,
} from "./gen/lanebox/v1/file_pb.js";
import { FileType } from "./gen/lanebox/v1/filesystem_pb.js";
import type { Lane } from "./lane.js";
import { dataPiece, entryPiece, holePiece } from "./tree-pieces.js";

const PIECE = 256 * 1024;
const SLASH = Buffer.from("/");

/** Copies; arguments are checked already. */
export async function copyIn(
  lane: Lane,
  from: string,
  target: Uint8Array,
  options: CheckedCopyOptions,
): Promise<CopyResult> {
  const count = new CopyCount(options);
  const failure: { error?: unknown } = {};
  const root = Buffer.from(from);
  await lstat(root); // what is not there is told before anything is made
  try {
    await lane.files(options.signal, (files, call) =>
      files.writeTree(requests(root, target, count, failure), call),
    );
  } catch (error) {
    throw failure.error ?? error;
  }
  return count.result();
}

async function* requests(
  root: Buffer,
  target: Uint8Array,
  count: CopyCount,
  failure: { error?: unknown },
): AsyncGenerator<WriteTreeRequest, void> {
  yield create(WriteTreeRequestSchema, { request: { case: "target", value: target } });
  try {
    for await (const piece of pieces(root, Buffer.alloc(0), count)) {
      yield create(WriteTreeRequestSchema, { request: { case: "piece", value: piece } });
    }
  } catch (error) {
    failure.error = error;
    throw error;
  }
}

/** What is at `path` of the host, `name` in the tree, and what is below. */
async function* pieces(path: Buffer, name: Buffer, count: CopyCount): AsyncGenerator<TreePiece> {
  const found = await lstat(path, { bigint: true });
  if (found.isSymbolicLink()) {
    count.entry();
    const link = await readlink(path, { encoding: "buffer" });
    yield entryPiece(name, FileType.SYMLINK, found, link);
  } else if (found.isFile()) {
    yield* file(path, name, count);
  } else if (found.isDirectory()) {
    count.entry();
    yield entryPiece(name, FileType.DIRECTORY, found);
    // Node's types do not know that names can be bytes here.
    const entries = await opendir(path, { encoding: "buffer" as BufferEncoding });
    for await (const entry of entries as AsyncIterable<Dirent>) {
      const child = entry.name as unknown as Buffer;
      const inner = name.length === 0 ? child : Buffer.concat([name, SLASH, child]);
      yield* pieces(Buffer.concat([path, SLASH, child]), inner, count);
    }
  } else {
    count.skipped += 1;
  }
}

async function* file(path: Buffer, name: Buffer, count: CopyCount): AsyncGenerator<TreePiece> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(path, flags);
  try {
    const found = await handle.stat({ bigint: true });
    count.entry();
    yield entryPiece(name, FileType.FILE, found);
    yield* content(handle, found, count);
  } finally {
    await handle.close();
  }
}

/** As many bytes as the stat says, or what there is; zeroes of a sparse file are holes. */
async function* content(
  handle: Awaited<ReturnType<typeof open>>,
  found: BigIntStats,
  count: CopyCount,
): AsyncGenerator<TreePiece> {
  const sparse = found.blocks * 512n < found.size;
  const size = Number(found.size);
  let hole = 0;
  for (let at = 0; at < size; ) {
    const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE, size - at));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    const data = buffer.subarray(0, bytesRead);
    if (sparse && isZero(data)) {
      hole += bytesRead;
    } else {
      if (hole > 0) yield holePiece(hole);
      hole = 0;
      yield dataPiece(data);
    }
    count.content(bytesRead);
  }
  if (hole > 0) yield holePiece(hole);
}

const ZEROES = Buffer.alloc(PIECE);

function isZero(data: Buffer): boolean {
  return ZEROES.compare(data, 0, data.length, 0, data.length) === 0;
}
