// The commands of the stand-in's guest.
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ErrorCode } from "../gen/lanebox/v1/error_pb.js";
import type { ProcessService, RunRequest, StartProcess } from "../gen/lanebox/v1/process_pb.js";
import { ExitReason } from "../gen/lanebox/v1/sandbox_pb.js";
import { type Fake, failure, later } from "./fake-helper.js";

type Response = {
  response:
    | { case: "started"; value: { pid: number } }
    | { case: "stdout" | "stderr"; value: Uint8Array }
    | { case: "exited"; value: Record<string, unknown> };
};

const out = (text: string | Uint8Array): Response => ({
  response: { case: "stdout", value: Buffer.from(text as string) },
});
const err = (text: string): Response => ({
  response: { case: "stderr", value: Buffer.from(text) },
});
const exited = (value: Record<string, unknown>): Response => ({
  response: { case: "exited", value },
});

type Command = (call: {
  start: StartProcess;
  input: AsyncIterator<RunRequest>;
  context: HandlerContext;
  fake: Fake;
}) => AsyncGenerator<Response>;

const commands: Record<string, Command> = {
  async *echo({ start }) {
    yield out(`${start.args.join(" ")}\n`);
    yield err("noted\n");
    yield exited({ exitCode: 0 });
  },
  async *show({ start }) {
    const { command, args, env, cwd, user, stdin, timeoutMs, maxOutputBytes } = start;
    const { terminal, limits, noNewPrivileges } = start;
    const numbers = { timeoutMs: Number(timeoutMs), maxOutputBytes: Number(maxOutputBytes) };
    const more =
      terminal || limits.length > 0 || noNewPrivileges
        ? {
            size: terminal && [terminal.rows, terminal.columns],
            limits: limits.map(({ name, soft, hard }) => [name, String(soft), String(hard)]),
            noNewPrivileges,
          }
        : {};
    yield out(JSON.stringify({ command, args, env, cwd, user, stdin, ...numbers, ...more }));
    yield exited({ exitCode: 0 });
  },
  async *cat({ input }) {
    for (let next = await input.next(); !next.done; next = await input.next()) {
      if (next.value.request.case === "stdin") yield out(next.value.request.value);
    }
    yield exited({ exitCode: 0 });
  },
  /** Exits without reading its input. */
  async *deaf() {
    yield exited({ exitCode: 3 });
  },
  /** "ä€😀" in pieces of one byte, then an incomplete character. */
  async *pieces() {
    for (const byte of Buffer.from("\ufeffä€😀")) yield out(Uint8Array.of(byte));
    yield out(Uint8Array.of(0xe2, 0x82));
    yield exited({ exitCode: 0 });
  },
  async *flood({ start }) {
    for (let i = 0; i < Number(start.args[0]); i++) yield out(Buffer.alloc(64 * 1024, "ü"));
    yield exited({ exitCode: 0, stdoutTruncated: start.args[1] === "truncated" });
  },
  async *killed() {
    yield exited({ signal: 9, signalName: "SIGKILL" });
  },
  async *slow() {
    yield exited({ signal: 15, signalName: "SIGTERM", timedOut: true });
  },
  async *hang({ context, fake }) {
    yield out("here\n");
    context.signal.addEventListener("abort", () => fake.note("run cancelled"));
    await new Promise(() => undefined);
  },
  async *short() {
    yield out("cut");
  },
  /** The helper dies. */
  async *die() {
    yield out("last words\n");
    console.error(JSON.stringify({ level: "ERROR", fields: { message: "Out of memory" } }));
    await later(20);
    process.kill(process.pid, "SIGKILL");
    await new Promise(() => undefined);
  },
  /** The guest dies, and the helper says so and ends at once. */
  async *panic({ fake }) {
    fake.end(ExitReason.GUEST_PANICKED, "The guest's kernel panicked");
    setTimeout(() => process.exit(0), 50);
    await new Promise(() => undefined);
  },
  /** The guest dies and the helper stays, its calls unanswered. */
  async *poweroff({ fake }) {
    fake.end(ExitReason.GUEST_STOPPED, "The guest stopped");
    await new Promise(() => undefined);
  },
};

/** The service of the stand-in's guest. */
export function fakeCommands(fake: Fake): Partial<ServiceImpl<typeof ProcessService>> {
  return {
    async *run(requests, context) {
      const input = requests[Symbol.asyncIterator]();
      const first = await input.next();
      if (first.done || first.value.request.case !== "start")
        throw failure(ErrorCode.INVALID_ARGUMENT, { message: "No start" });
      const start = first.value.request.value;
      const command = commands[start.command];
      if (start.command === "locked") {
        throw failure(ErrorCode.COMMAND_NOT_EXECUTABLE, {
          message: "locked: permission denied",
          errno: "EACCES",
        });
      }
      if (start.command === "homeless") {
        throw failure(ErrorCode.PROCESS_NOT_STARTED, {
          message: "No such directory",
          errno: "ENOENT",
        });
      }
      if (command === undefined) {
        throw failure(ErrorCode.COMMAND_NOT_FOUND, {
          message: `${start.command}: command not found`,
          errno: "ENOENT",
        });
      }
      yield { response: { case: "started", value: { pid: 42 } } };
      yield* command({ start, input, context, fake });
    },
    signal: (request) => {
      fake.note(`signal ${request.pid} ${request.signal}`);
      return {};
    },
    resize: ({ pid, size }) => {
      fake.note(`resize ${pid} ${size?.rows} ${size?.columns}`);
      return {};
    },
    wait: ({ pid }) => {
      fake.note(`wait ${pid}`);
      return { exited: { exitCode: 9 } };
    },
  };
}
