// exec against the stand-in for the helper.
import assert from "node:assert/strict";
import type { ReadableStream as WebStream } from "node:stream/web";
import { after, before, test } from "node:test";
import { SandboxError, type Vm } from "./index.js";
import { type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
let vm: Vm;
const unhandled: unknown[] = [];
const warnings: Error[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));
process.on("warning", (warning) => warnings.push(warning));

before(async () => {
  setup = setUp();
  vm = await setup.sandbox.boot();
});
after(async () => {
  await vm.close();
  const { length } = setup.alive();
  setup.remove();
  assert.equal(length, 0);
  assert.deepEqual(unhandled, []);
  assert.deepEqual(warnings, []);
});

function rejection(promise: Promise<unknown>): Promise<SandboxError> {
  return promise.then(
    () => assert.fail("it did not reject"),
    (error) => error,
  );
}

test("stdout, stderr and the status come back", async () => {
  assert.deepEqual(await vm.exec("echo", ["a", "b c"]), {
    exitCode: 0,
    signal: null,
    stdout: "a b c\n",
    stderr: "noted\n",
    truncated: false,
  });
});

test("bytes are bytes", async () => {
  const { stdout } = await vm.exec("cat", [], {
    stdin: Uint8Array.of(0, 255, 254),
    encoding: "buffer",
  });
  assert.deepEqual([...stdout], [0, 255, 254]);
});

test("text is whole across pieces, keeps its byte order mark, and marks what is no UTF-8", async () => {
  assert.equal((await vm.exec("pieces")).stdout, "\ufeffä€😀\ufffd");
});

test("what is given reaches the guest, with the defaults for the rest", async () => {
  const plain = JSON.parse((await vm.exec("show")).stdout);
  assert.deepEqual(plain, {
    command: "show",
    args: [],
    env: {},
    cwd: "",
    user: "",
    stdin: false,
    timeoutMs: 0,
    maxOutputBytes: 16 * 1024 * 1024,
  });
  const full = await vm.exec("show", ["x", ""], {
    cwd: "/tmp",
    env: { A: "1", B: undefined },
    user: "nobody:100",
    stdin: "",
    timeoutMs: 1000,
    maxOutputBytes: 4096,
  });
  assert.deepEqual(JSON.parse(full.stdout), {
    command: "show",
    args: ["x", ""],
    env: { A: "1" },
    cwd: "/tmp",
    user: "nobody:100",
    stdin: true,
    timeoutMs: 1000,
    maxOutputBytes: 4096,
  });
});

test("a missing command is 127 and one that cannot be executed 126, with a line on stderr", async () => {
  const missing = await vm.exec("nonesuch");
  assert.equal(missing.exitCode, 127);
  assert.equal(missing.stderr, "nonesuch: command not found\n");
  assert.equal(missing.signal, null);
  const locked = await vm.exec("locked", [], { encoding: "buffer" });
  assert.equal(locked.exitCode, 126);
  assert.match(locked.stderr.toString(), /permission denied/);
});

test("a process that cannot be started for another reason rejects", async () => {
  const error = await rejection(vm.exec("homeless"));
  assert.equal(error.code, "process-not-started");
  assert.equal(error.errno, "ENOENT");
});

test("death by a signal is 128+n with its name, and a timeout is 124", async () => {
  const killed = await vm.exec("killed");
  assert.deepEqual([killed.exitCode, killed.signal], [137, "SIGKILL"]);
  const slow = await vm.exec("slow", [], { timeoutMs: 10 });
  assert.deepEqual([slow.exitCode, slow.signal], [124, "SIGTERM"]);
});

test("output beyond the limit is cut between characters, whoever cuts it", async () => {
  const cut = await vm.exec("flood", ["2"], { maxOutputBytes: 65_537 });
  assert.equal(cut.truncated, true);
  assert.equal(Buffer.byteLength(cut.stdout), 65_536);
  assert(!cut.stdout.includes("\ufffd"));
  const told = await vm.exec("flood", ["1", "truncated"]);
  assert.equal(told.truncated, true);
  const bytes = await vm.exec("flood", ["2"], { maxOutputBytes: 65_537, encoding: "buffer" });
  assert.equal(bytes.stdout.byteLength, 65_537);
});

test("a large output arrives whole", async () => {
  const { stdout, truncated } = await vm.exec("flood", ["200"], { encoding: "buffer" });
  assert.equal(stdout.byteLength, 200 * 64 * 1024);
  assert.equal(truncated, false);
});

test("standard input comes from text, bytes, Web streams and async iterables", async () => {
  const large = "ü".repeat(700_000);
  async function* mixed(): AsyncGenerator<Uint8Array | string> {
    yield "a";
    yield Buffer.from("");
    yield Buffer.from("b");
  }
  const stream = new Blob(["web ", "stream"]).stream() as WebStream<Uint8Array>;
  for (const [stdin, expected] of [
    ["text", "text"],
    ["", ""],
    [large, large],
    [Buffer.from("bytes"), "bytes"],
    [mixed(), "ab"],
    [stream, "web stream"],
  ] as const) {
    assert.equal((await vm.exec("cat", [], { stdin })).stdout, expected);
  }
});

test("a source is read no faster than the process reads", async () => {
  let pulled = 0;
  let returned = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        pulled += 1;
        yield Buffer.alloc(64 * 1024);
      }
    } finally {
      returned = true;
    }
  }
  const controller = new AbortController();
  const hanging = rejection(vm.exec("hang", [], { stdin: endless(), signal: controller.signal }));
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = pulled;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(pulled, before);
  controller.abort();
  await hanging;
  await new Promise(setImmediate);
  assert.equal(returned, true);
});

test("a process that exits without reading its input does not hang, and lets the source go", async () => {
  let cancelled = false;
  const never = new ReadableStream({
    cancel() {
      cancelled = true;
    },
  }) as WebStream<Uint8Array>;
  assert.equal((await vm.exec("deaf", [], { stdin: never })).exitCode, 3);
  await new Promise(setImmediate);
  assert.equal(cancelled, true);
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) yield Buffer.alloc(64 * 1024);
  }
  assert.equal((await vm.exec("deaf", [], { stdin: endless() })).exitCode, 3);
  const stuck = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }),
  };
  assert.equal((await vm.exec("deaf", [], { stdin: stuck })).exitCode, 3);
});

test("a source that throws rejects with it as cause and ends the process", async () => {
  const before = cancellations();
  const broken = new Error("disk on fire");
  async function* source(): AsyncGenerator<Uint8Array> {
    yield Buffer.from("a");
    throw broken;
  }
  const error = await rejection(vm.exec("hang", [], { stdin: source() }));
  assert(error instanceof SandboxError);
  assert.equal(error.cause, broken);
  await cancelled(before + 1);
  async function* wrong(): AsyncGenerator<Uint8Array> {
    yield 5 as unknown as Uint8Array;
  }
  const refused = await rejection(vm.exec("hang", [], { stdin: wrong() }));
  assert.match(refused.message, /options\.stdin chunk: .* got 5/);
  await cancelled(before + 2);
});

test("an abort rejects at once, ends the process, and leaves the VM usable", async () => {
  const before = cancellations();
  const controller = new AbortController();
  const running = rejection(vm.exec("hang", [], { signal: controller.signal }));
  await vm.exec("echo");
  controller.abort(new Error("changed my mind"));
  const error = await running;
  assert.equal(error.name, "AbortError");
  assert.equal((error.cause as Error).message, "changed my mind");
  await cancelled(before + 1);
  assert.equal((await vm.exec("echo", ["on"])).stdout, "on\n");
});

test("an aborted signal starts nothing", async () => {
  const error = await rejection(vm.exec("die", [], { signal: AbortSignal.abort() }));
  assert.equal(error.name, "AbortError");
  assert.equal((await vm.exec("echo", ["on"])).stdout, "on\n");
});

test("many run side by side, also on one signal, and none waits for another", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const hanging = Array.from({ length: 40 }, () => rejection(vm.exec("hang", [], { signal })));
  const quick = await Promise.all(
    Array.from({ length: 40 }, (_, index) => vm.exec("echo", [`${index}`], { signal })),
  );
  assert.deepEqual(
    quick.map(({ stdout }) => stdout),
    quick.map((_, index) => `${index}\n`),
  );
  controller.abort();
  for (const error of await Promise.all(hanging)) assert.equal(error.name, "AbortError");
});

test("a stream that ends without a status is a defect, not a success", async () => {
  assert.equal((await rejection(vm.exec("short"))).code, "internal");
});

const wrongCalls: [unknown, unknown, unknown, RegExp][] = [
  ["", [], {}, /^command/],
  ["a\0b", [], {}, /^command/],
  [["a"], [], {}, /^command/],
  ["a", "b", {}, /^args: expected an array/],
  ["a", ["x", 1], {}, /^args\[1\]/],
  ["a", ["\0"], {}, /^args\[0\]/],
  ["a", { cwd: "/" }, undefined, /^args/],
  ["a", [], { cwd: "tmp" }, /^options\.cwd/],
  ["a", [], { env: { A: 1 } }, /^options\.env/],
  ["a", [], { user: "a:b:c" }, /^options\.user/],
  ["a", [], { user: "" }, /^options\.user/],
  ["a", [], { stdin: 5 }, /^options\.stdin/],
  ["a", [], { stdin: ["a"] }, /^options\.stdin/],
  ["a", [], { timeoutMs: 0 }, /^options\.timeoutMs/],
  ["a", [], { timeoutMs: 2 ** 31 }, /^options\.timeoutMs/],
  ["a", [], { maxOutputBytes: 0 }, /^options\.maxOutputBytes/],
  ["a", [], { encoding: "latin1" }, /^options\.encoding/],
  ["a", [], { signal: "abort" }, /^options\.signal/],
  ["a", [], { shell: true }, /^options\.shell: unknown/],
  ["a", [], null, /^options: expected an object/],
];

for (const [command, args, options, message] of wrongCalls) {
  test(`exec refuses what fails with ${message}`, async () => {
    const error = await rejection(vm.exec(command as string, args as string[], options as object));
    assert(error instanceof SandboxError);
    assert.equal(error.code, "invalid-argument");
    assert.match(error.message, message);
  });
}

function cancellations(): number {
  return setup.notes().filter((line) => line === "run cancelled").length;
}

async function cancelled(count: number): Promise<void> {
  while (cancellations() < count) await new Promise((resolve) => setTimeout(resolve, 5));
}
