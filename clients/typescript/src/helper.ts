// The child process sandbox-host: how it is started and how it ends. It gets a connected socket as
// fd 3, nothing of our environment but LANEBOX_LOG, and a session of its own, so that a terminal's
// Ctrl-C does not reach it. It ends by itself when fd 3 ends; whoever starts one calls `stop`.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { getSystemErrorName } from "node:util";
import { SandboxError } from "./errors.js";
import { within } from "./wait.js";

/** How the helper ended. */
export interface HelperExit {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Bytes of the helper's stderr that are kept. */
const STDERR_KEPT = 16 * 1024;
/** Milliseconds that a helper's last words get to arrive after its exit. */
const STDERR_DRAIN_MS = 100;
/** Milliseconds from SIGKILL to giving up on hearing of the end. */
const KILL_WAIT_MS = 1000;

/** A running sandbox-host. */
export class Helper {
  /** Our end of its fd 3. */
  readonly socket: Socket;
  /** Resolves when the process is gone; never rejects. */
  readonly exited: Promise<HelperExit>;
  readonly #child: ChildProcess;
  #stderr = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.socket = child.stdio[3] as Socket;
    child.on("error", () => undefined); // a failed kill; a failed start is handled in `start`
    const forward = logWanted();
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
      if (forward) process.stderr.write(text);
    });
    child.stderr?.on("error", () => undefined);
    this.exited = new Promise((resolve) => {
      child.once("exit", (exitCode, signal) => {
        drained(child.stderr).then(() => resolve({ exitCode, signal }));
      });
    });
  }

  /**
   * Starts `path`. Throws a {@link SandboxError}: `artifact-missing` when there is no such file,
   * `artifact-invalid` when it cannot be executed, `boot-failed` when the system has no room.
   */
  static async start(path: string, args: readonly string[]): Promise<Helper> {
    let child: ChildProcess;
    try {
      child = spawn(path, args, {
        stdio: ["ignore", "ignore", "pipe", "pipe"],
        detached: true,
        cwd: "/",
        env: logWanted() ? { LANEBOX_LOG: process.env["LANEBOX_LOG"] } : {},
      });
    } catch (error) {
      throw startError(path, error);
    }
    if (child.pid === undefined) {
      const [error] = await once(child, "error");
      throw startError(path, error);
    }
    return new Helper(child);
  }

  /** What it last wrote to stderr, for people: the messages of its log lines, ten at most. */
  lastWords(): string {
    const lines = this.#stderr.split("\n").filter((line) => line.trim() !== "");
    return lines.slice(-10).map(logMessage).join("\n");
  }

  /** Kills it at once. What it started dies with it. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Closes fd 3, waits, kills it after `graceMs`, and returns when it is gone (1 s after the kill at the latest). */
  async stop(graceMs: number): Promise<void> {
    this.socket.destroy();
    if (await within(this.exited, graceMs)) return;
    this.kill();
    await within(this.exited, KILL_WAIT_MS);
    this.#child.unref(); // not even SIGKILL ended it within a second: do not hold this program for it
    this.#child.stderr?.destroy();
  }
}

/** Reads what is left of a stream whose writer is gone; a descriptor that leaked elsewhere costs a moment. */
async function drained(stream: Readable | null): Promise<void> {
  if (stream === null || stream.readableEnded) return;
  await within(once(stream, "end"), STDERR_DRAIN_MS);
  stream.destroy();
}

function logWanted(): boolean {
  return (process.env["LANEBOX_LOG"] ?? "") !== "";
}

function startError(path: string, cause: unknown): SandboxError {
  const { code, errno } = cause as NodeJS.ErrnoException;
  const name = code ?? (errno === undefined ? undefined : getSystemErrorName(errno));
  const message = `The helper ${path} cannot be started: ${name ?? String(cause)}`;
  switch (name) {
    case "ENOENT":
      return new SandboxError("artifact-missing", message, { errno: name, cause });
    case "EACCES":
    case "ENOEXEC":
    case "EPERM":
      return new SandboxError("artifact-invalid", message, { errno: name, cause });
    default:
      return new SandboxError("boot-failed", message, { errno: name, step: "start-helper", cause });
  }
}

/** The message of one JSON log line; a line of another form as it is. */
function logMessage(line: string): string {
  try {
    const record = JSON.parse(line);
    const message = record?.fields?.message ?? record?.message;
    if (typeof message !== "string") return line;
    const error = record.fields?.error;
    return typeof error === "string" ? `${message}: ${error}` : message;
  } catch {
    return line;
  }
}
