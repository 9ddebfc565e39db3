// Files of the guest as Web streams.
import { ReadableStream, type WritableStream } from "node:stream/web";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type OpenFileSchema,
  type WriteFileRequest,
  WriteFileRequestSchema,
} from "./gen/lanebox/v1/file_pb.js";
import type { Lane } from "./lane.js";
import { ProcessInput } from "./process-input.js";

/** Bytes of one message. */
const PIECE = 256 * 1024;

/** A stream of pieces; they are asked for when the reader wants them. */
export function readStream(pieces: AsyncGenerator<Uint8Array, void>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await pieces.return();
      },
    },
    { highWaterMark: 0 },
  );
}

/** A stream into a file; closing it waits until the guest has everything. */
export function writeStream(
  lane: Lane,
  open: MessageInitShape<typeof OpenFileSchema>,
  signal: AbortSignal | undefined,
): WritableStream<Uint8Array | string> {
  const abandoned = new AbortController();
  const both = signal ? AbortSignal.any([signal, abandoned.signal]) : abandoned.signal;
  const input: ProcessInput = new ProcessInput({
    what: "chunk",
    finished: () => written,
    aborted: () => abandoned.abort(),
  });
  const written = lane
    .files(both, (files, call) => files.writeFile(requests(open, input), call))
    .then(
      () => undefined,
      (error) => {
        input.fail(error);
        throw error;
      },
    );
  written.catch(() => undefined);
  return input.stream;
}

async function* requests(
  open: MessageInitShape<typeof OpenFileSchema>,
  input: ProcessInput,
): AsyncGenerator<WriteFileRequest, void> {
  yield create(WriteFileRequestSchema, { request: { case: "open", value: open } as never });
  for await (const data of input) {
    for (let at = 0; at < data.byteLength; at += PIECE) {
      const value = data.subarray(at, at + PIECE);
      yield create(WriteFileRequestSchema, { request: { case: "data", value } });
    }
  }
}
