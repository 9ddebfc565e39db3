import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { FileType, RenameMode } from "../gen/lanebox/v1/filesystem_pb.js";
import { type FileSystem, fs } from "../index.js";
import { type Asked, FakeHost } from "../testing/fake-host.js";

const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));
const hosts: FakeHost[] = [];

/** After each test: the stream has ended, and no rejection went unhandled. */
afterEach(async () => {
  for (const host of hosts.splice(0)) {
    host.end();
    await host.server.done;
    assert.deepEqual(host.stray, []);
  }
  await new Promise(setImmediate);
  assert.deepEqual(unhandled, []);
});

async function serve(mount: ConstructorParameters<typeof FakeHost>[0]): Promise<FakeHost> {
  const host = new FakeHost(mount);
  hosts.push(host);
  await host.server.attached;
  return host;
}

/** A file system that answers as it must; each test makes a part of it wrong. */
const right: FileSystem = {
  stat: async (path) => ({ type: path === "/" ? "directory" : "file", sizeBytes: 3 }),
  list: async () => [{ name: "a", type: "file" }],
  read: async () => Buffer.from("abc"),
  createFile: async () => ({ type: "file" }),
  write: async ({ contents }) => contents.byteLength,
  truncate: async () => ({ type: "file" }),
};

const STAT = { case: "stat", value: {} } as const;
const LIST = { case: "list", value: {} } as const;
const read = (length: number) => ({ case: "read", value: { offset: 0n, length } }) as const;
const write = (contents: Uint8Array) =>
  ({ case: "write", value: { offset: 5n, contents } }) as const;

async function errnoOf({ answer }: Asked): Promise<[string, string]> {
  const { answer: got, problem } = await answer;
  assert.equal(got.case, "errno");
  return [String(got.value), problem];
}

test("a question reaches the file system, and its answer the host", async () => {
  const seen: unknown[] = [];
  const host = await serve(
    fs.virtual({
      ...right,
      stat: async (path) => {
        seen.push(path);
        return { type: "file", sizeBytes: 5, mode: 0o100755, ino: 7, modifiedAtMs: -0.5, uid: 3 };
      },
      write: async ({ path, offset, contents }) => {
        seen.push([path, offset, Buffer.from(contents).toString()]);
        return 1;
      },
      rename: async (...args) => {
        seen.push(args);
      },
      utimes: async (path, times) => {
        seen.push([path, times.modifiedAtNs, typeof times.accessedAtNs]);
      },
      symlink: async (target, path) => {
        seen.push([target, path]);
      },
    }),
  );
  const { answer } = await host.ask("/ä", STAT).answer;
  assert(answer.case === "stat");
  const { size, mode, ino, modified, uid, gid } = answer.value;
  assert.deepEqual([size, mode, ino, uid, gid], [5n, 0o755, 7n, 3, undefined]);
  assert.deepEqual([modified?.seconds, modified?.nanos], [-1n, 999_500_000]);
  const written = await host.ask("/f", write(Buffer.from("xy"))).answer;
  assert.deepEqual(written.answer, { case: "written", value: 1n });
  await host.ask("/f", { case: "rename", value: { to: Buffer.from("/g") } }).answer;
  const time = { time: { seconds: 1n, nanos: 2 } };
  await host.ask("/f", { case: "utimes", value: { modified: time, accessed: {} } }).answer;
  await host.ask("/l", { case: "symlink", value: { target: Buffer.from("t") } }).answer;
  assert.deepEqual(seen, [
    "/ä",
    ["/f", 5, "xy"],
    ["/f", "/g"],
    ["/f", 1_000_000_002n, "bigint"],
    ["t", "/l"],
  ]);
});

test("what is thrown with a Linux name, or Node's number, is what the guest sees", async () => {
  const thrown: [unknown, string][] = [
    [Object.assign(new Error("x"), { code: "EACCES" }), "EACCES"],
    [Object.assign(new Error("x"), { errno: "ENOSPC", code: "whatever" }), "ENOSPC"],
    [Object.assign(new Error("x"), { errno: -13 }), "EACCES"],
    [Object.assign(new Error("x"), { errno: 2, code: "ERR_X" }), "ENOENT"],
    [{ code: "EROFS" }, "EROFS"],
    [{ code: "ENOTSUP" }, "EOPNOTSUPP"],
  ];
  for (const [error, errno] of thrown) {
    const host = await serve(fs.virtual({ ...right, stat: () => Promise.reject(error) }));
    assert.deepEqual(await errnoOf(host.ask("/a", STAT)), [errno, ""]);
  }
});

test("anything else that is thrown is EIO, and a problem for the owner", async () => {
  const nasty = {
    get errno() {
      throw new Error("getter");
    },
    toString() {
      throw new Error("toString");
    },
  };
  const thrown: [unknown, RegExp][] = [
    [new Error("broken"), /^stat threw Error: broken$/],
    ["ENOENT", /^stat threw ENOENT$/],
    [undefined, /^stat threw undefined$/],
    [null, /null/],
    [{ code: "EWHATEVER" }, /object/],
    [{ code: "constructor" }, /object/],
    [{ errno: 99_999 }, /object/],
    [nasty, /cannot be shown/],
    [new Error("long ".repeat(1000)), /^.{100,250}$/],
  ];
  for (const [error, problem] of thrown) {
    const host = await serve(
      fs.virtual({
        ...right,
        stat: () => {
          throw error;
        },
      }),
    );
    const [errno, told] = await errnoOf(host.ask("/a", STAT));
    assert.equal(errno, "EIO");
    assert.match(told, problem);
  }
});

const wrongAnswers: [
  string,
  Partial<Record<keyof FileSystem, unknown>>,
  Parameters<FakeHost["ask"]>[1],
][] = [
  ["no stat", { stat: () => undefined }, STAT],
  ["a stat that is text", { stat: () => "file" }, STAT],
  ["a type that is none", { stat: () => ({ type: "door" }) }, STAT],
  ["a type of the prototype", { stat: () => ({ type: "constructor" }) }, STAT],
  ["a size below zero", { stat: () => ({ type: "file", sizeBytes: -1 }) }, STAT],
  ["half a byte", { stat: () => ({ type: "file", sizeBytes: 0.5 }) }, STAT],
  ["a mode that is text", { stat: () => ({ type: "file", mode: "755" }) }, STAT],
  ["an owner beyond 32 bits", { stat: () => ({ type: "file", uid: 2 ** 32 }) }, STAT],
  ["a time that is none", { stat: () => ({ type: "file", modifiedAtMs: Number.NaN }) }, STAT],
  ["an inode below zero", { stat: () => ({ type: "file", ino: -1n }) }, STAT],
  ["no list", { list: () => null }, LIST],
  ["a list that is text", { list: () => "ab" }, LIST],
  ["an entry that is text", { list: () => ["a"] }, LIST],
  ["an entry with a slash", { list: () => [{ name: "a/b", type: "file" }] }, LIST],
  ["an entry with NUL", { list: () => [{ name: "a\0", type: "file" }] }, LIST],
  ["the entry ..", { list: () => [{ name: "..", type: "directory" }] }, LIST],
  ["an empty name", { list: () => [{ name: "", type: "file" }] }, LIST],
  ["a name of 256 bytes", { list: () => [{ name: "ä".repeat(128), type: "file" }] }, LIST],
  [
    "a name twice",
    {
      list: () => [
        { name: "a", type: "file" },
        { name: "a", type: "file" },
      ],
    },
    LIST,
  ],
  ["text for bytes", { read: () => "abc" }, read(10)],
  ["more bytes than were asked for", { read: () => Buffer.alloc(11) }, read(10)],
  ["more written than there was", { write: () => 3 }, write(Buffer.alloc(2))],
  ["nothing written", { write: () => 0 }, write(Buffer.alloc(2))],
  ["nothing said of what was written", { write: () => undefined }, write(Buffer.alloc(2))],
  ["an empty target", { readlink: () => "" }, { case: "readlink", value: {} }],
  ["a target with NUL", { readlink: () => "a\0b" }, { case: "readlink", value: {} }],
  ["names that are none", { listxattr: () => [""] }, { case: "listxattr", value: {} }],
  [
    "too many names",
    { listxattr: () => Array(300).fill("n".repeat(255)) },
    { case: "listxattr", value: {} },
  ],
  ["sizes without blocks", { statfs: () => ({}) }, { case: "statfs", value: {} }],
];

for (const [what, wrong, call] of wrongAnswers) {
  test(`${what} is EIO, a problem for the owner, and no harm to the next question`, async () => {
    const host = await serve(fs.virtual({ ...right, ...wrong } as FileSystem));
    const [errno, problem] = await errnoOf(host.ask("/a", call));
    assert.equal(errno, "EIO");
    assert.match(problem, /^\w+ answered wrongly: /);
    const next = call.case === "read" ? LIST : read(3);
    assert.notEqual((await host.ask("/a", next).answer).answer.case, "errno");
  });
}

test("a promise that never settles holds its slot and nothing else; its signal fires", async () => {
  let fired = 0;
  let settle: (data: Uint8Array) => void = () => undefined;
  const host = await serve(
    fs.virtual({
      ...right,
      read: ({ path, signal }) => {
        signal?.addEventListener("abort", () => fired++);
        if (path === "/fast") return Promise.resolve(Buffer.from("now"));
        return new Promise((resolve) => {
          settle = resolve;
        });
      },
    }),
  );
  const hung = [host.ask("/slow", read(3)), host.ask("/slow", read(3))];
  for (let i = 0; i < 300; i++) {
    assert.equal((await host.ask("/fast", read(3)).answer).answer.case, "data");
  }
  for (const asked of hung) host.cancel(asked);
  while (fired < 2) await new Promise(setImmediate);
  assert.equal((await host.ask("/fast", read(3)).answer).answer.case, "data");
  settle(Buffer.alloc(3));
  const [errno, problem] = await errnoOf(hung[1] as Asked);
  assert.deepEqual([errno, problem], ["ETIMEDOUT", ""], "late data is dropped, the credit is back");
});

test("the end of the stream fires every signal, and what settles afterwards goes nowhere", async () => {
  const settles: (() => void)[] = [];
  const signals: AbortSignal[] = [];
  const host = await serve(
    fs.virtual({
      ...right,
      read: ({ signal }) =>
        new Promise((resolve, reject) => {
          if (signal) signals.push(signal);
          settles.push(() =>
            settles.length % 2 ? resolve(Buffer.alloc(1)) : reject(new Error("late")),
          );
        }),
    }),
  );
  for (let i = 0; i < 4; i++) host.ask("/a", read(3));
  while (signals.length < 4) await new Promise(setImmediate);
  host.server.end();
  await host.server.done;
  assert(signals.every(({ aborted }) => aborted));
  for (const settle of settles) settle();
  await new Promise(setImmediate);
});

test("answers come in the order in which they are ready", async () => {
  const wakes = new Map<string, () => void>();
  const host = await serve(
    fs.virtual({
      ...right,
      stat: async (path) => {
        await new Promise<void>((resolve) => wakes.set(path, resolve));
        return { type: "file" };
      },
    }),
  );
  const order: string[] = [];
  const asked = ["/1", "/2", "/3"].map((path) =>
    host.ask(path, STAT).answer.then(() => order.push(path)),
  );
  while (wakes.size < 3) await new Promise(setImmediate);
  for (const path of ["/3", "/1", "/2"]) {
    wakes.get(path)?.();
    await new Promise(setImmediate);
  }
  await Promise.all(asked);
  assert.deepEqual(order, ["/3", "/1", "/2"]);
});

test("a large directory comes whole, in pieces, and others are served in between", async () => {
  const files = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`d/file-${i}`, ""]));
  const host = await serve(fs.memory({ files }));
  const listing = host.ask("/d", LIST);
  const order: string[] = [];
  const [{ answer }] = await Promise.all([
    listing.answer.then((answer) => {
      order.push("list");
      return answer;
    }),
    host.ask("/d/file-1", STAT).answer.then(() => order.push("stat")),
  ]);
  assert(answer.case === "entries");
  assert.equal(new Set(answer.value.entries.map(({ name }) => String(name))).size, 5000);
  assert(host.pieces.length > 4);
  assert.deepEqual(order, ["stat", "list"]);
});

test("a list that is cancelled or that throws in the middle ends with an error", async () => {
  const entries = function* () {
    for (let i = 0; ; i++) {
      if (i === 2000) throw Object.assign(new Error("x"), { code: "EACCES" });
      yield { name: `${i}`, type: "file" };
    }
  };
  const list = async () => entries();
  const host = await serve(fs.virtual({ ...right, list } as unknown as FileSystem));
  assert.deepEqual(await errnoOf(host.ask("/", LIST)), ["EACCES", ""]);
  const cancelled = host.ask("/", LIST);
  host.cancel(cancelled);
  assert.deepEqual(await errnoOf(cancelled), ["ETIMEDOUT", ""]);
});

test("names that are not UTF-8 are refused with EILSEQ, or come as bytes where that is asked for", async () => {
  const raw = Buffer.from([0x2f, 0xff]);
  let calls = 0;
  const stat: FileSystem["stat"] = async () => {
    calls++;
    return { type: "file" };
  };
  const host = await serve(fs.virtual({ ...right, stat }));
  assert.deepEqual(await errnoOf(host.ask(raw, STAT)), ["EILSEQ", ""]);
  assert.equal(calls, 0);
  const seen: unknown[] = [];
  const bytes: FileSystem<Uint8Array> & { rawPaths: true } = {
    rawPaths: true,
    stat: async (path) => {
      seen.push(Buffer.from(path));
      return { type: "file" };
    },
    list: async () => [{ name: "", rawName: Uint8Array.of(0xff), type: "file" }],
    read: async () => new Uint8Array(),
  };
  const rawHost = await serve(fs.virtual(bytes));
  await rawHost.ask(raw, STAT).answer;
  assert.deepEqual(seen, [raw]);
  const { answer } = await rawHost.ask("/", LIST).answer;
  assert(answer.case === "entries");
  assert.deepEqual(
    answer.value.entries.map(({ name }) => Buffer.from(name)),
    [Buffer.from([0xff])],
  );
});

test("what was not offered is not asked of the file system, whatever the host says", async () => {
  const memory = fs.memory({ files: { a: "abc" } });
  const host = await serve(fs.virtual(memory, { readOnly: true }));
  assert.deepEqual(await errnoOf(host.ask("/a", write(Buffer.from("x")))), ["EROFS", ""]);
  assert.deepEqual(await errnoOf(host.ask("/a", { case: "unlink", value: {} })), ["EROFS", ""]);
  const node = { case: "createFile", value: { type: FileType.FIFO, mode: 0o600 } } as const;
  assert.deepEqual(await errnoOf(host.ask("/p", node)), ["EROFS", ""]);
  assert.equal(await memory.readFile("/a", "utf8"), "abc");
  const plain = await serve(fs.virtual(right));
  assert.deepEqual(await errnoOf(plain.ask("/p", node)), ["EOPNOTSUPP", ""]);
  assert.deepEqual(await errnoOf(plain.ask("/d", { case: "mkdir", value: {} })), [
    "EOPNOTSUPP",
    "",
  ]);
});

test("fs.memory serves every call, and what one mount does the others and JavaScript hear of", async () => {
  const memory = fs.memory();
  const [one, two] = [await serve(memory), await serve(memory)];
  const done = async (path: string | Uint8Array, call: Parameters<FakeHost["ask"]>[1]) => {
    const { answer, problem } = await one.ask(path, call).answer;
    assert.notEqual(answer.case, "errno", `${call.case}: ${String(answer.value)} ${problem}`);
    return answer;
  };
  const to = (path: string) => Buffer.from(path);
  const name = Buffer.from("user.x");
  await done("/f", { case: "createFile", value: { type: FileType.FILE, mode: 0o640 } });
  await done("/f", write(Buffer.from("hello")));
  await done("/p", { case: "createFile", value: { type: FileType.FIFO, mode: 0o600 } });
  await done("/s", { case: "createFile", value: { type: FileType.SOCKET, mode: 0o600 } });
  await done("/d", { case: "mkdir", value: { mode: 0o700 } });
  await done("/f", { case: "link", value: { to: to("/d/g") } });
  await done("/l", { case: "symlink", value: { target: Buffer.from([0xff]) } });
  assert.deepEqual((await done("/l", { case: "readlink", value: {} })).value, Buffer.from([0xff]));
  await done("/f", { case: "chmod", value: { mode: 0o4755 } });
  await done("/f", { case: "chown", value: { uid: 1, gid: 2 } });
  await done("/f", { case: "utimes", value: { accessed: {}, modified: {} } });
  await done("/f", { case: "setxattr", value: { name, value: name, flags: 1 } });
  assert.deepEqual((await done("/f", { case: "getxattr", value: { name } })).value, name);
  await done("/f", { case: "listxattr", value: {} });
  await done("/f", { case: "removexattr", value: { name } });
  await done("/f", { case: "truncate", value: { size: 9n } });
  await done("/f", { case: "fsync", value: {} });
  await done("/", { case: "statfs", value: {} });
  await done("/f", { case: "rename", value: { to: to("/d"), mode: RenameMode.EXCHANGE } });
  await done("/s", { case: "unlink", value: {} });
  await done("/f/g", { case: "unlink", value: {} });
  await done("/f", { case: "rmdir", value: {} });
  assert.equal(await memory.readFile("/d", "latin1"), "\0\0\0\0\0hell");
  assert.equal((await memory.stat("/d")).mode, 0o4755);
  assert.equal((await memory.stat("/p")).type, "fifo");
  await memory.writeFile("/js", "x");
  while (!two.changed.includes("/js") || !one.changed.includes("/js")) {
    await new Promise(setImmediate);
  }
  assert.deepEqual(one.changed, ["/js", "/"]);
  assert(two.changed.includes("/f/g"));
});

test("changes that a slow host cannot follow are told as one of the root", async () => {
  const memory = fs.memory({ files: { f: "" } });
  const host = await serve(memory);
  for (let i = 0; i < 20_000; i++) void memory.writeFile(`/${i}`, "");
  while (!host.changed.includes("/19999")) await new Promise(setImmediate);
  assert(host.changed.includes("/"));
  assert(host.changed.length < 20_000);
});

test("a watch that throws, lies or stops badly is a warning, once", async () => {
  const wrong: [FileSystem["watch"], RegExp][] = [
    [
      () => {
        throw new Error("no inotify");
      },
      /threw Error: no inotify/,
    ],
    [(async () => Promise.reject("soon")) as never, /threw soon/],
    [(tell) => void tell(["relative", "/a/../b", 7 as never]), /relative/],
    [(tell) => void tell("/a" as never), /not an array/],
  ];
  for (const [watch, warning] of wrong) {
    const host = await serve(fs.virtual({ ...right, watch } as FileSystem));
    await new Promise(setImmediate);
    assert.equal(host.warnings.length, 1);
    assert.match(host.warnings[0] ?? "", warning);
  }
  let tellLater: (paths: string[]) => void = () => undefined;
  let stopped = 0;
  const host = await serve(
    fs.virtual({
      ...right,
      watch: (tell) => {
        tellLater = tell;
        tell(["/now"]);
        return () => {
          stopped++;
          throw new Error("bad stop");
        };
      },
    }),
  );
  while (!host.changed.includes("/now")) await new Promise(setImmediate);
  host.server.end();
  await host.server.done;
  await new Promise(setImmediate);
  tellLater(["/later"]);
  assert.equal(stopped, 1);
  assert.deepEqual(host.changed, ["/now"]);
});
