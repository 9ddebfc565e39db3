// What a mount's stream sends: answers in the order in which they are ready, and changes, which wait
// and are merged while the host is slow. The transport takes one message after the other, no faster
// than the host reads.
import { create } from "@bufbuild/protobuf";
import {
  type FilesystemAnswer,
  type ServeFilesystemRequest,
  ServeFilesystemRequestSchema,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { deferred } from "../wait.js";
import { bytes } from "./names.js";

/** Paths of one message, at most. */
const PATHS = 1024;
/** Changed paths that wait; when there are more, the root is told to have changed. */
const PATHS_WAITING = 16 * 1024;

interface Waiting {
  readonly request: ServeFilesystemRequest["request"];
  readonly taken: () => void;
}

/** The requests of one ServeFilesystem call. */
export class Outbox {
  #waiting: Waiting[] = [];
  #changed = new Set<string>();
  #wake = deferred<void>();
  #closed = false;

  /** Sends what comes first. */
  constructor(first: ServeFilesystemRequest["request"]) {
    this.#waiting.push({ request: first, taken: () => undefined });
  }

  /** Sends an answer; resolves when the transport has taken it, or when nothing is sent any more. */
  answer(value: FilesystemAnswer): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((taken) => {
      this.#waiting.push({ request: { case: "answer", value }, taken });
      this.#wake.resolve();
    });
  }

  /** Tells of changed paths, as binary strings. */
  changed(paths: readonly string[]): void {
    if (this.#closed) return;
    for (const path of paths) this.#changed.add(path);
    if (this.#changed.size > PATHS_WAITING) this.#changed = new Set(["/"]);
    this.#wake.resolve();
  }

  /** Sends nothing more; what waits is dropped. */
  close(): void {
    this.#closed = true;
    for (const { taken } of this.#waiting) taken();
    this.#waiting = [];
    this.#changed.clear();
    this.#wake.resolve();
  }

  /** The messages, for the transport. */
  async *messages(): AsyncGenerator<ServeFilesystemRequest, void> {
    for (;;) {
      if (this.#closed) return;
      const batch = this.#waiting;
      this.#waiting = [];
      for (const { request, taken } of batch) {
        yield create(ServeFilesystemRequestSchema, { request });
        taken();
      }
      const paths = this.#takeChanged();
      if (paths.length > 0) {
        const value = { $typeName: "lanebox.v1.FilesystemChanged" as const, paths };
        yield create(ServeFilesystemRequestSchema, { request: { case: "changed", value } });
      } else if (batch.length === 0) {
        await this.#wake.promise;
        this.#wake = deferred();
      }
    }
  }

  #takeChanged(): Buffer[] {
    const paths: Buffer[] = [];
    for (const path of this.#changed) {
      if (paths.length === PATHS) break;
      this.#changed.delete(path);
      paths.push(bytes(path));
    }
    return paths;
  }
}
