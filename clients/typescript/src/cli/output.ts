// Writing to stdout and stderr at the reader's pace.

/** Exit status of a program that a broken pipe ended: 128 + SIGPIPE. */
export const BROKEN_PIPE_STATUS = 141;

/** Writes and resolves when the bytes are out; rejects when nobody reads any more. */
export function write(stream: NodeJS.WriteStream, data: Uint8Array | string): Promise<void> {
  if (stream.listenerCount("error") === 0) stream.on("error", () => undefined);
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()));
  });
}

/** Whether an error says that the reader of our output has gone. */
export function isBrokenPipe(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === "EPIPE" || code === "ERR_STREAM_DESTROYED";
}
