// What a process writes, as a Web stream. It takes a bounded number of bytes ahead of its reader;
// whoever fills it waits for room.
import { ByteLengthQueuingStrategy, ReadableStream } from "node:stream/web";
import { type Deferred, deferred } from "./wait.js";

/** Bytes that wait for a reader before the process has to: four times a pipe of Linux. */
const AHEAD = 256 * 1024;

/** One output of a process. */
export class ProcessOutput {
  readonly stream: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #room: Deferred<void> | undefined;

  constructor() {
    this.stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#makeRoom(),
        // What nobody wants is thrown away, so that it does not stop the process.
        cancel: () => this.#over(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: AHEAD }),
    );
  }

  /** Gives bytes to the reader. What is returned resolves when there is room for more; undefined: now. */
  push(data: Uint8Array): Promise<void> | undefined {
    const controller = this.#controller;
    if (controller === undefined) return undefined;
    controller.enqueue(data);
    if ((controller.desiredSize ?? 1) > 0) return undefined;
    this.#room ??= deferred();
    return this.#room.promise;
  }

  /** Nothing more comes. */
  end(): void {
    const controller = this.#controller;
    this.#over();
    controller?.close();
  }

  /** Nothing more comes, because of an error. */
  fail(error: Error): void {
    const controller = this.#controller;
    this.#over();
    controller?.error(error);
  }

  #over(): void {
    this.#controller = undefined;
    this.#makeRoom();
  }

  #makeRoom(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}
