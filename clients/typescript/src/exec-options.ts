// The options and the result of exec.
import { type StdinSource, stdinSource } from "./stdin.js";
import {
  abortSignal,
  absolutePath,
  environment,
  integer,
  matching,
  object,
  oneOf,
  optional,
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

/** The check of the options of `exec`. */
export const checkExecOptions = object({
  ...processFields,
  maxOutputBytes: withDefault(integer(1, LARGEST_MAX_OUTPUT), DEFAULT_MAX_OUTPUT),
  encoding: withDefault(oneOf("utf8", "buffer"), "utf8"),
});
