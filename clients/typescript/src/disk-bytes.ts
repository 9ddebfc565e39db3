// rootfs.bytes: a whole disk, read in order by a helper without a VM, at the pace of the reader.
//
//   helper: data and lengths of holes ──► pieces of 256 KiB at most ──► chunks of one size
import { create } from "@bufbuild/protobuf";
import { findHelper } from "./artifacts.js";
import { planRoot, servedStore } from "./boot-root.js";
import { AbortError } from "./errors.js";
import { keptRootfs } from "./flatten.js";
import { ReadDiskRequestSchema, type ReadDiskResponse } from "./gen/lanebox/v1/image_pb.js";
import { diskGrants } from "./grants.js";
import { Lane } from "./lane.js";
import { abortSignal, integer, object, optional, withDefault } from "./validate.js";
import type { Rootfs } from "./writable-rootfs.js";

/** Options of `rootfs.bytes`. */
export interface BytesOptions {
  /** Bytes of each chunk but the last: 512 to 67108864. Default: 1048576. */
  readonly chunkSize?: number | undefined;
  /** Aborting makes the iteration reject with an `AbortError`. */
  readonly signal?: AbortSignal | undefined;
}

const bytesOptions = object({
  chunkSize: withDefault(integer(512, 64 * 1024 * 1024), 1024 * 1024),
  signal: optional(abortSignal),
});

/** The bytes of a disk. Nothing is started before the first is asked for. */
export function bytes(
  image: Rootfs,
  options?: BytesOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  return read(keptRootfs(image, "image"), bytesOptions(options, "options"));
}

async function* read(
  image: Rootfs,
  { chunkSize, signal }: ReturnType<typeof bytesOptions>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (signal?.aborted) throw new AbortError(signal);
  const source = planRoot(image);
  const request = create(ReadDiskRequestSchema, { source });
  const grants = { paths: diskGrants(source), network: false };
  const lane = await Lane.start({ helper: findHelper().host, grants });
  try {
    const chunks = new Chunks(chunkSize);
    const pieces = lane.images(signal, servedStore(image), (images, call) =>
      images.readDisk(request, call),
    );
    for await (const piece of pieces) {
      for (const chunk of chunks.take(piece.piece)) {
        yield chunk;
        if (signal?.aborted) throw new AbortError(signal);
      }
    }
    const rest = chunks.rest();
    if (rest !== undefined) yield rest;
  } finally {
    await lane.abandon();
  }
}

/** Makes chunks of one size out of pieces of any. Each chunk is the reader's own. */
export class Chunks {
  readonly #size: number;
  #chunk: Uint8Array | undefined;
  #filled = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** The chunks that a piece fills. */
  *take(piece: ReadDiskResponse["piece"]): Generator<Uint8Array, void> {
    const data = piece.case === "data" ? piece.value : undefined;
    let left = data?.byteLength ?? Number(piece.value ?? 0);
    while (left > 0) {
      this.#chunk ??= new Uint8Array(this.#size);
      const count = Math.min(left, this.#size - this.#filled);
      if (data !== undefined) {
        const at = data.byteLength - left;
        this.#chunk.set(data.subarray(at, at + count), this.#filled);
      }
      this.#filled += count;
      left -= count;
      if (this.#filled === this.#size) {
        const chunk = this.#chunk;
        this.#chunk = undefined;
        this.#filled = 0;
        yield chunk;
      }
    }
  }

  /** What is left at the end. */
  rest(): Uint8Array | undefined {
    return this.#chunk?.subarray(0, this.#filled);
  }
}
