// exec: one process run to its end, its output collected within a limit.
import { SandboxError, type SandboxErrorCode } from "./errors.js";
import { checkExecOptions, type ExecResult } from "./exec-options.js";
import type { Lane } from "./lane.js";
import { type ProcessSpec, run } from "./process.js";
import { list, nonEmptyText, text, withDefault } from "./validate.js";

/** Checks the arguments of `exec`, runs the process, and collects. */
export async function exec(
  lane: Lane,
  command: unknown,
  args: unknown,
  given: unknown,
): Promise<ExecResult<string | Buffer>> {
  const { signal, encoding, maxOutputBytes, ...options } = checkExecOptions(given, "options");
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
