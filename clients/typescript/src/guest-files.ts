// vm.fs: the files of the guest, as its root sees them.
import { constants } from "node:buffer";
import type { ReadableStream, WritableStream } from "node:stream/web";
import { copyIn } from "./copy-in.js";
import { type CopyOptions, type CopyResult, checkCopyOptions } from "./copy-options.js";
import { copyOut } from "./copy-out.js";
import { SandboxError } from "./errors.js";
import { WriteMode } from "./gen/lanebox/v1/file_pb.js";
import { fileStat, type GuestFileStat } from "./guest-file-stat.js";
import { readStream, writeStream } from "./guest-file-streams.js";
import type { Lane } from "./lane.js";
import {
  abortSignal,
  boolean,
  type Check,
  integer,
  invalid,
  nonEmptyText,
  object,
  oneOf,
  optional,
  text,
  withDefault,
} from "./validate.js";
import { handled } from "./wait.js";

/** A name in a directory of the guest. */
export interface GuestDirectoryEntry {
  /** The name, with U+FFFD for what is not UTF-8. */
  readonly name: string;
  /** The name as it is. */
  readonly rawName: Uint8Array;
  readonly stat: GuestFileStat;
}

/** A path in the guest: absolute. Bytes for names that are not UTF-8. */
export type GuestPath = string | Uint8Array;

/** What every operation takes. */
export interface GuestFileOptions {
  /** Aborting rejects with an `AbortError`; what was done stays done. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of reading. */
export interface ReadOptions extends GuestFileOptions {
  /** Bytes of the file that are wanted. Default: all. Less comes when the file is shorter. */
  readonly range?: { readonly offset: number; readonly length?: number | undefined } | undefined;
}

/** Options of `readFile`. */
export interface ReadFileOptions extends ReadOptions {
  /** `"utf8"`: text. Default: bytes. */
  readonly encoding?: "utf8" | undefined;
  /** More bytes are an error (`limit-exceeded`, `EFBIG`). Default: 1 GiB. Use `createReadStream` for more. */
  readonly maxBytes?: number | undefined;
}

/** Options of writing. */
export interface WriteOptions extends GuestFileOptions {
  /** Makes the directories above that are missing. Default: false. */
  readonly createParents?: boolean | undefined;
  /** Permission bits. Default: 0o644 for a new file, and what it has for another. */
  readonly mode?: number | undefined;
  /** `"w"` (default) replaces the content, `"a"` appends, `"wx"` fails when the file is there. */
  readonly flag?: "w" | "a" | "wx" | undefined;
}

const GIB = 1024 ** 3;
const common = { signal: optional(abortSignal) };
const mode = integer(0, 0o7777);
const range = optional(
  object({
    offset: withDefault(integer(0, Number.MAX_SAFE_INTEGER), 0),
    length: optional(integer(0, Number.MAX_SAFE_INTEGER)),
  }),
);
const checkCommon = object(common);
const checkRead = object({ ...common, range });
const checkReadFile = object({
  ...common,
  range,
  encoding: optional(oneOf("utf8")),
  maxBytes: withDefault(integer(0, constants.MAX_LENGTH), GIB),
});
const writeFields = {
  ...common,
  createParents: withDefault(boolean, false),
  mode: optional(mode),
  flag: withDefault(oneOf("w", "a", "wx"), "w"),
};
const checkWrite = object(writeFields);
const checkMkdir = object({
  ...common,
  recursive: withDefault(boolean, false),
  mode: optional(mode),
});
const checkRemove = object({
  ...common,
  recursive: withDefault(boolean, false),
  force: withDefault(boolean, false),
});
const modes = { w: WriteMode.UNSPECIFIED, a: WriteMode.APPEND, wx: WriteMode.NEW };

/** The check of a path of the guest. */
export const guestPath: Check<Uint8Array> = (value, path) => {
  const bytes =
    value instanceof Uint8Array ? value : Buffer.from(nonEmptyText(value, path), "utf8");
  if (bytes[0] !== 0x2f || bytes.includes(0) || bytes.length > 4095) {
    throw invalid(path, "an absolute path of at most 4095 bytes", value);
  }
  return bytes;
};

/**
 * The files of a running VM. Paths are absolute; mounts are seen. What fails in the guest rejects with
 * a {@link SandboxError} `file-error` that has the `errno`, such as `ENOENT`; wrong arguments with
 * `invalid-argument`.
 */
export class GuestFiles {
  readonly #lane: Lane;

  /** @internal */
  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /** What is at the path; a symlink is not followed. */
  stat(path: GuestPath, options?: GuestFileOptions): Promise<GuestFileStat> {
    return handled(
      this.#do(options, async (signal) => {
        const request = { path: guestPath(path, "path") };
        const { stat } = await this.#lane.files(signal, (files, call) => files.stat(request, call));
        return fileStat(stat);
      }),
    );
  }

  /** The entries of a directory, in no order, as they come. Leaving the loop ends the reading. */
  async *readDir(
    path: GuestPath,
    options?: GuestFileOptions,
  ): AsyncGenerator<GuestDirectoryEntry, void> {
    const { signal } = checkCommon(options, "options");
    const request = { path: guestPath(path, "path") };
    const decoder = new TextDecoder();
    const pieces = this.#lane.fileStream(signal, (files, call) =>
      files.readDirectory(request, call),
    );
    for await (const { entries } of pieces) {
      for (const { name, stat } of entries) {
        const rawName = Uint8Array.from(name);
        yield { name: decoder.decode(rawName), rawName, stat: fileStat(stat) };
      }
    }
  }

  /** A whole file, or a range of it. Devices, FIFOs and sockets are refused with `EINVAL`. */
  readFile(
    path: GuestPath,
    options: "utf8" | (ReadFileOptions & { readonly encoding: "utf8" }),
  ): Promise<string>;
  readFile(
    path: GuestPath,
    options?: ReadFileOptions & { readonly encoding?: undefined },
  ): Promise<Buffer>;
  readFile(path: GuestPath, options?: "utf8" | ReadFileOptions): Promise<string | Buffer> {
    const given = typeof options === "string" ? { encoding: options } : options;
    return handled(this.#readFile(path, given));
  }

  async #readFile(path: GuestPath, options: unknown): Promise<string | Buffer> {
    const { signal, range, encoding, maxBytes } = checkReadFile(options, "options");
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const data of this.#pieces(guestPath(path, "path"), range, signal)) {
      length += data.byteLength;
      if (length > maxBytes) {
        const message = `${show(path)} has more than options.maxBytes (${maxBytes}) bytes`;
        throw new SandboxError("limit-exceeded", message, { errno: "EFBIG" });
      }
      pieces.push(data);
    }
    const content = Buffer.concat(pieces, length);
    return encoding === "utf8" ? content.toString("utf8") : content;
  }

  /** A file, or a range of it, read no faster than the stream is. Cancelling ends the reading. */
  createReadStream(path: GuestPath, options?: ReadOptions): ReadableStream<Uint8Array> {
    const { signal, range } = checkRead(options, "options");
    return readStream(this.#pieces(guestPath(path, "path"), range, signal));
  }

  async *#pieces(
    path: Uint8Array,
    range: { offset: number; length: number | undefined } | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void> {
    const length = range?.length;
    const request = {
      path,
      offset: BigInt(range?.offset ?? 0),
      ...(length === undefined ? {} : { length: BigInt(length) }),
    };
    const pieces = this.#lane.fileStream(signal, (files, call) => files.readFile(request, call));
    for await (const { data } of pieces) yield data;
  }

  /** Writes a file. A write that fails leaves what it has written. */
  writeFile(path: GuestPath, data: string | Uint8Array, options?: WriteOptions): Promise<void> {
    return handled(
      (async () => {
        if (typeof data !== "string" && !(data instanceof Uint8Array)) {
          throw invalid("data", "a string or a Uint8Array", data);
        }
        const writer = this.createWriteStream(path, options).getWriter();
        writer.closed.catch(() => undefined);
        await writer.write(data);
        await writer.close();
      })(),
    );
  }

  /**
   * A stream into a file. The file is complete when `close` has resolved. Aborting it leaves what was
   * written.
   */
  createWriteStream(path: GuestPath, options?: WriteOptions): WritableStream<Uint8Array | string> {
    const { signal, createParents, mode, flag } = checkWrite(options, "options");
    const open = {
      path: guestPath(path, "path"),
      mode: modes[flag],
      createParents,
      ...(mode === undefined ? {} : { permissions: mode }),
    };
    return writeStream(this.#lane, open, signal);
  }

  /** Makes a directory. `recursive` makes those above too, and is content with one that is there. */
  mkdir(
    path: GuestPath,
    options?: GuestFileOptions & {
      readonly recursive?: boolean | undefined;
      /** Permission bits. Default: 0o755. */
      readonly mode?: number | undefined;
    },
  ): Promise<void> {
    return handled(
      (async () => {
        const { signal, recursive, mode } = checkMkdir(options, "options");
        const permissions = mode === undefined ? {} : { permissions: mode };
        const request = { path: guestPath(path, "path"), recursive, ...permissions };
        await this.#lane.files(signal, (files, call) => files.makeDirectory(request, call));
      })(),
    );
  }

  /** Removes a file, a symlink, an empty directory; with `recursive` any directory. `force`: nothing there is fine. */
  remove(
    path: GuestPath,
    options?: GuestFileOptions & {
      readonly recursive?: boolean | undefined;
      readonly force?: boolean | undefined;
    },
  ): Promise<void> {
    return handled(
      (async () => {
        const { signal, recursive, force } = checkRemove(options, "options");
        const request = { path: guestPath(path, "path"), recursive, force };
        await this.#lane.files(signal, (files, call) => files.remove(request, call));
      })(),
    );
  }

  /** Moves a file or directory, replacing what rename(2) replaces. */
  rename(from: GuestPath, to: GuestPath, options?: GuestFileOptions): Promise<void> {
    return handled(
      this.#do(options, async (signal) => {
        const request = { from: guestPath(from, "from"), to: guestPath(to, "to") };
        await this.#lane.files(signal, (files, call) => files.rename(request, call));
      }),
    );
  }

  /** Sets permission bits; a symlink is followed. */
  chmod(path: GuestPath, permissions: number, options?: GuestFileOptions): Promise<void> {
    return handled(
      this.#do(options, async (signal) => {
        const request = { path: guestPath(path, "path"), permissions: mode(permissions, "mode") };
        await this.#lane.files(signal, (files, call) => files.changeMode(request, call));
      }),
    );
  }

  /** Makes a symlink at `path` that holds `target`. */
  symlink(target: GuestPath, path: GuestPath, options?: GuestFileOptions): Promise<void> {
    return handled(
      this.#do(options, async (signal) => {
        const bytes =
          target instanceof Uint8Array ? target : Buffer.from(nonEmptyText(target, "target"));
        const request = { path: guestPath(path, "path"), target: bytes };
        await this.#lane.files(signal, (files, call) => files.makeSymlink(request, call));
      }),
    );
  }

  /** What a symlink holds, with U+FFFD for what is not UTF-8. */
  readLink(path: GuestPath, options?: GuestFileOptions): Promise<string> {
    return handled(
      this.#do(options, async (signal) => {
        const request = { path: guestPath(path, "path") };
        const { target } = await this.#lane.files(signal, (files, call) =>
          files.readLink(request, call),
        );
        return new TextDecoder().decode(target);
      }),
    );
  }

  /**
   * Copies a file or a directory tree of the host to `guestPath`, which is the name of the copy. Modes,
   * symlinks (as they are) and times of content are kept; holes stay holes. Directories that are there
   * are merged, other things replaced. FIFOs, sockets and devices are left out and counted.
   */
  copyIn(hostPath: string, path: GuestPath, options?: CopyOptions): Promise<CopyResult> {
    return handled(
      (async () => {
        const checked = checkCopyOptions(options, "options");
        const from = nonEmptyText(hostPath, "hostPath");
        return copyIn(this.#lane, from, guestPath(path, "guestPath"), checked);
      })(),
    );
  }

  /**
   * Copies a file or a directory tree of the guest to `hostPath`, which is the name of the copy. As
   * {@link GuestFiles.copyIn}; set-id bits are not kept, and nothing is ever written outside of
   * `hostPath` or through a symlink below it.
   */
  copyOut(path: GuestPath, hostPath: string, options?: CopyOptions): Promise<CopyResult> {
    return handled(
      (async () => {
        const checked = checkCopyOptions(options, "options");
        const to = text(nonEmptyText(hostPath, "hostPath"), "hostPath");
        return copyOut(this.#lane, guestPath(path, "guestPath"), to, checked);
      })(),
    );
  }

  async #do<T>(options: unknown, act: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    return act(checkCommon(options, "options").signal);
  }
}

function show(path: GuestPath): string {
  return typeof path === "string" ? path : new TextDecoder().decode(path);
}
