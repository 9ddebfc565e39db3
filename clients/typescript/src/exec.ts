// exec: one process run to its end, its output collected within a limit.
import type { SandboxErrorCode } from "./errors.js";
import { SandboxError } from "./errors.js";
import type { Lane } from "./lane.js";
import { type ProcessSpec, run } from "./process.js";
import { type StdinSource, stdinSource } from "./stdin.js";
import {
  abortSignal,
  absolutePath,
  environment,
  integer,
  list,
  matching,
  nonEmptyText,
  object,
  oneOf,
  optional,
  text,
  withDefault,
} from "./validate.js";

/** Options of `exec`. */
export interface ExecOptions {
  /** Working directory in the guest: absolute, in normal form. Default: the lane's `cwd`. */
  readonly cwd?: string | undefined;
  /** Variables over the lane's environment. Those that are `undefined` are left out. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** `"name"`, `"uid"`, `"name:group"` or `"uid:gid"` in the guest. Default: root. */
  readonly user?: string | undefined;
  /** Standard input. Without it the process reads end-of-file. */
  readonly stdin?: StdinSource | undefined;
  /**
   * Milliseconds, 1 to 2147483647, after which the process group gets SIGTERM and a second later
   * SIGKILL; `exitCode` is then 124. Default: no limit.
   */
  readonly timeoutMs?: number | undefined;
  /** Aborting rejects the promise at once with an `AbortError` and ends the process group. The VM stays usable. */
  readonly signal?: AbortSignal | undefined;
  /** Bytes that are kept of stdout, and of stderr: 1 to 268435456 (256 MiB). Default: 16777216 (16 MiB). */
  readonly maxOutputBytes?: number | undefined;
  /** `"utf8"` (default): output is text, with U+FFFD for what is not UTF-8. `"buffer"`: output is bytes. */
  readonly encoding?: "utf8" | "buffer" | undefined;
}

/** How a process ended and what it wrote. */
export interface ExecResult<Output = string> {
  /**
   * The status a shell would show: the process's own, 124 after `timeoutMs`, 126 when the command
   * cannot be executed, 127 when it does not exist, 128+n when signal n ended the process.
   */
  readonly exitCode: number;
  /** Name of the signal that ended the process, such as `SIGKILL`; otherwise `null`. */
  readonly signal: string | null;
  /** What it wrote to standard output. */
  readonly stdout: Output;
  /** What it wrote to standard error. */
  readonly stderr: Output;
  /** Output beyond `maxOutputBytes` was thrown away. */
  readonly truncated: boolean;
}

const DEFAULT_MAX_OUTPUT = 16 * 1024 * 1024;
const LARGEST_MAX_OUTPUT = 256 * 1024 * 1024;

/** The fields that every way of starting a process takes. */
export const processFields = {
  cwd: optional(absolutePath),
  env: withDefault(environment, {}),
  user: optional(
    matching(/^[^:]{1,255}(:[^:]{1,255})?$/, '"name", "uid", "name:group" or "uid:gid"'),
  ),
  stdin: optional(stdinSource),
  timeoutMs: optional(integer(1, 2 ** 31 - 1)),
  signal: optional(abortSignal),
};

const checkOptions = object({
  ...processFields,
  maxOutputBytes: withDefault(integer(1, LARGEST_MAX_OUTPUT), DEFAULT_MAX_OUTPUT),
  encoding: withDefault(oneOf("utf8", "buffer"), "utf8"),
});

/** Checks the arguments of `exec`, runs the process, and collects. */
export async function exec(
  lane: Lane,
  command: unknown,
  args: unknown,
  given: unknown,
): Promise<ExecResult<string | Buffer>> {
  const { signal, encoding, maxOutputBytes, ...options } = checkOptions(given, "options");
  const spec: ProcessSpec = {
    ...options,
    command: nonEmptyText(command, "command"),
    args: withDefault(list(text), [])(args, "args"),
    maxOutputBytes,
  };
  const stdout = new Collector(maxOutputBytes);
  const stderr = new Collector(maxOutputBytes);
  const result = (
    exitCode: number,
    endedBy: string | null,
    cut: boolean,
  ): ExecResult<string | Buffer> => ({
    exitCode,
    signal: endedBy,
    stdout: encoding === "utf8" ? stdout.text(cut) : stdout.bytes(),
    stderr: encoding === "utf8" ? stderr.text(cut) : stderr.bytes(),
    truncated: cut,
  });
  try {
    for await (const event of run(lane, spec, signal)) {
      if (event.type === "stdout") stdout.add(event.data);
      else if (event.type === "stderr") stderr.add(event.data);
      else if (event.type === "exited") {
        const { exitCode, signal: endedBy, truncated } = event.end;
        return result(exitCode, endedBy, truncated || stdout.cut || stderr.cut);
      }
    }
  } catch (error) {
    const status = notStartedStatus(error);
    if (status === undefined) throw error;
    stderr.add(Buffer.from(`${(error as Error).message}\n`));
    return result(status, null, false);
  }
  throw new SandboxError("internal", "The process ended without a status");
}

const notStarted: Partial<Record<SandboxErrorCode, number>> = {
  "command-not-found": 127,
  "command-not-executable": 126,
};

/** The shell's status for a command that did not start; undefined for other errors. */
export function notStartedStatus(error: unknown): number | undefined {
  return error instanceof SandboxError ? notStarted[error.code] : undefined;
}

/** Bytes as they come, up to a limit, in one growing buffer: many small pieces cost no more than few large ones. */
class Collector {
  readonly #max: number;
  #buffer = Buffer.alloc(0);
  #length = 0;
  /** Something was left out here. */
  cut = false;

  constructor(max: number) {
    this.#max = max;
  }

  add(data: Uint8Array): void {
    const taken = data.subarray(0, this.#max - this.#length);
    if (taken.byteLength < data.byteLength) this.cut = true;
    const needed = this.#length + taken.byteLength;
    if (needed > this.#buffer.byteLength) {
      const size = Math.min(this.#max, Math.max(needed, this.#buffer.byteLength * 2, 1024));
      const larger = Buffer.allocUnsafeSlow(size);
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    this.#buffer.set(taken, this.#length);
    this.#length = needed;
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** A character that the limit has cut in two is left out. */
  text(truncated: boolean): string {
    if (!truncated) return this.bytes().toString("utf8");
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.bytes(), { stream: true });
  }
}
