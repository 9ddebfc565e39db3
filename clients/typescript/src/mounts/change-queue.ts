// Changed paths on their way to the host: they wait and are merged while the host is slow.
import { create } from "@bufbuild/protobuf";
import {
  type ServeFilesystemRequest,
  ServeFilesystemRequestSchema,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { bytes } from "./names.js";

/** Paths of one message, at most. */
const PATHS = 1024;
/** Changed paths that wait; when there are more, the root is told to have changed. */
const PATHS_WAITING = 16 * 1024;

/** Changed paths, as binary strings. */
export class ChangeQueue {
  #changed = new Set<string>();

  /** Keeps paths until they are taken. */
  add(paths: readonly string[]): void {
    for (const path of paths) this.#changed.add(path);
    if (this.#changed.size > PATHS_WAITING) this.#changed = new Set(["/"]);
  }

  /** The message with the next of them, if there are any. */
  take(): ServeFilesystemRequest | undefined {
    const paths: Buffer[] = [];
    for (const path of this.#changed) {
      if (paths.length === PATHS) break;
      this.#changed.delete(path);
      paths.push(bytes(path));
    }
    if (paths.length === 0) return undefined;
    const value = { $typeName: "lanebox.v1.FilesystemChanged" as const, paths };
    return create(ServeFilesystemRequestSchema, { request: { case: "changed", value } });
  }
}
