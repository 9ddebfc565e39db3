// One process of the guest as a stream of what it does: the Run call of lanebox.v1.ProcessService.
// Reading slowly slows the process down; leaving the loop, or the signal, ends its process group.
import { create } from "@bufbuild/protobuf";
import { onAbort } from "./abort.js";
import { AbortError, SandboxError } from "./errors.js";
import {
  type ProcessExited,
  ResourceLimitSchema,
  type RunRequest,
  RunRequestSchema,
  TerminalSizeSchema,
} from "./gen/lanebox/v1/process_pb.js";
import { closedError, type Lane } from "./lane.js";
import type { CheckedLimit, TerminalSize } from "./spawn-options.js";
import { StdinReader, type StdinSource } from "./stdin.js";

/** What to run. Checked already. */
export interface ProcessSpec {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Record<string, string>;
  /** Absolute; undefined for the lane's own. */
  readonly cwd: string | undefined;
  /** undefined for root. */
  readonly user: string | undefined;
  /** undefined: the process reads end-of-file. */
  readonly stdin: StdinSource | undefined;
  /** Milliseconds; undefined for no limit. */
  readonly timeoutMs: number | undefined;
  /** Bytes of stdout, and of stderr; undefined for no limit. */
  readonly maxOutputBytes: number | undefined;
  /** The process gets a terminal of this size; `stdin` is then given. */
  readonly terminal?: TerminalSize;
  readonly limits?: readonly CheckedLimit[];
  readonly noNewPrivileges?: boolean;
}

/** How a process ended. */
export interface ProcessEnd {
  /** The status a shell would show: 124 after a timeout, 128+n after signal n. */
  readonly exitCode: number;
  /** The process's own status; null when a signal ended it. */
  readonly ownCode: number | null;
  /** Name of the signal that ended it, such as `SIGKILL`. */
  readonly signal: string | null;
  /** Output beyond the limit was thrown away. */
  readonly truncated: boolean;
}

/** What a process does. `exited` comes last. */
export type ProcessEvent =
  | { readonly type: "started"; readonly pid: number }
  | { readonly type: "stdout"; readonly data: Uint8Array }
  | { readonly type: "stderr"; readonly data: Uint8Array }
  | { readonly type: "exited"; readonly end: ProcessEnd };

/** Milliseconds that the host has to answer beyond a process's own timeout and its grace. */
const TIMEOUT_SLACK_MS = 15_000;
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Runs a process and yields what it does. Throws an AbortError when the signal fires. */
export async function* run(
  lane: Lane,
  spec: ProcessSpec,
  signal: AbortSignal | undefined,
): AsyncGenerator<ProcessEvent, void> {
  if (signal?.aborted) throw new AbortError(signal);
  const stdin = spec.stdin === undefined ? undefined : new StdinReader(spec.stdin, "options.stdin");
  const call = new AbortController();
  const deaf = onAbort(signal, () => call.abort(signal?.reason));
  let failure: Error | undefined;
  let end: ProcessEnd | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    call.abort();
  };
  const unclosed = onAbort(lane.closed, () => fail(closedError()));
  const guard = spec.timeoutMs === undefined ? undefined : timeoutGuard(spec.timeoutMs, fail);
  try {
    const input = requests(spec, stdin, fail);
    const output = lane.stream(
      (processes, signal) => processes.run(input, { signal }),
      call.signal,
    );
    for await (const { response } of output) {
      switch (response.case) {
        case "started":
          yield { type: "started", pid: response.value.pid };
          break;
        case "stdout":
        case "stderr":
          yield { type: response.case, data: response.value };
          break;
        case "exited":
          end = processEnd(response.value); // the status of the call follows, at once
          break;
      }
    }
  } catch (error) {
    // Once the process has ended there is nothing left that could fail for the caller.
    if (end === undefined) throw signal?.aborted ? new AbortError(signal) : (failure ?? error);
  } finally {
    clearTimeout(guard);
    deaf();
    unclosed();
    stdin?.release();
    if (end === undefined) call.abort();
  }
  if (end === undefined) {
    throw new SandboxError(
      "internal",
      "The process's stream ended without saying how the process ended",
    );
  }
  yield { type: "exited", end };
}

/** A terminal's size as it is on the wire. */
export function wireSize({ rows, cols }: TerminalSize) {
  return create(TerminalSizeSchema, { rows, columns: cols });
}

/** What is sent: the start, then standard input. The end of this closes the process's input. */
async function* requests(
  spec: ProcessSpec,
  stdin: StdinReader | undefined,
  fail: (error: Error) => void,
): AsyncGenerator<RunRequest, void> {
  const { command, env } = spec;
  yield create(RunRequestSchema, {
    request: {
      case: "start",
      value: {
        command,
        args: [...spec.args],
        env,
        cwd: spec.cwd ?? "",
        user: spec.user ?? "",
        stdin: stdin !== undefined,
        timeoutMs: BigInt(spec.timeoutMs ?? 0),
        maxOutputBytes: BigInt(spec.maxOutputBytes ?? 0),
        limits: (spec.limits ?? []).map(({ name, soft, hard }) =>
          create(ResourceLimitSchema, {
            name,
            ...(soft === undefined ? {} : { soft }),
            ...(hard === undefined ? {} : { hard }),
          }),
        ),
        noNewPrivileges: spec.noNewPrivileges ?? false,
        ...(spec.terminal === undefined ? {} : { terminal: wireSize(spec.terminal) }),
      },
    },
  });
  try {
    for (let data = await stdin?.next(); data !== undefined; data = await stdin?.next()) {
      yield create(RunRequestSchema, { request: { case: "stdin", value: data } });
    }
  } catch (cause) {
    // A wrong chunk is told as what it is; anything else came from the caller's source.
    const refused = cause instanceof SandboxError && cause.code === "invalid-argument";
    fail(
      refused
        ? cause
        : new SandboxError("invalid-argument", "options.stdin: the source failed", { cause }),
    );
    throw cause;
  }
}

/** Ends the wait for a host that does not act on the timeout. */
function timeoutGuard(timeoutMs: number, fail: (error: Error) => void): NodeJS.Timeout {
  const late = () =>
    fail(
      new SandboxError("timeout", `The process did not end after its timeout of ${timeoutMs} ms`),
    );
  return setTimeout(late, Math.min(timeoutMs + TIMEOUT_SLACK_MS, TIMER_MAX_MS));
}

/** An end as it is on the wire, for us. */
export function processEnd(exited: ProcessExited): ProcessEnd {
  const bySignal = exited.signal > 0;
  const status = bySignal ? 128 + exited.signal : (exited.exitCode ?? 255);
  return {
    exitCode: exited.timedOut ? 124 : status,
    ownCode: bySignal ? null : status,
    signal: bySignal ? exited.signalName || `SIG${exited.signal}` : null,
    truncated: exited.stdoutTruncated || exited.stderrTruncated,
  };
}
