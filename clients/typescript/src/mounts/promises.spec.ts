import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, promises, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { memfs } from "memfs";
import { FileType } from "../gen/lanebox/v1/filesystem_pb.js";
import { fs, SandboxError, type VirtualMount } from "../index.js";
import { FakeHost } from "../testing/fake-host.js";

type Call = Parameters<FakeHost["ask"]>[1];

const STAT = { case: "stat", value: {} } as const;
const UNLINK = { case: "unlink", value: {} } as const;

interface Mounted {
  readonly call: (path: string, call: Call) => Promise<unknown>;
  readonly end: () => Promise<void>;
}

/** A mount's answers: the value, or the errno as text. */
async function serve(mount: VirtualMount): Promise<Mounted> {
  const host = new FakeHost(mount);
  await host.server.attached;
  return {
    call: async (path, call) => {
      const { answer, problem } = await host.ask(path, call).answer;
      assert.equal(problem, "", `${call.case} ${path}`);
      return answer.value;
    },
    end: () => {
      host.server.end();
      return host.server.done;
    },
  };
}

const read = (offset: bigint, length: number): Call => ({
  case: "read",
  value: { offset, length },
});
const to = (path: string) => ({ to: Buffer.from(path) });

async function names(mounted: Mounted, path: string): Promise<string[]> {
  const list = (await mounted.call(path, { case: "list", value: {} })) as {
    entries: { name: Uint8Array }[];
  };
  return list.entries.map(({ name }) => Buffer.from(name).toString()).sort();
}

/** What must hold of any object like node:fs/promises, whose root has a directory "d" with a file "f". */
async function exercise(mounted: Mounted): Promise<void> {
  const { call } = mounted;
  const stat = async (path: string) =>
    (await call(path, STAT)) as {
      type: FileType;
      mode: number;
      size: bigint;
      nlink: number;
      modified: { seconds: bigint };
    };
  assert.deepEqual(await names(mounted, "/d"), ["f"]);
  assert.equal((await stat("/d/f")).size, 5n);
  assert.deepEqual(
    Buffer.from((await call("/d/f", read(1n, 100))) as Uint8Array).toString(),
    "ello",
  );
  assert.equal(((await call("/d/f", read(9n, 100))) as Uint8Array).byteLength, 0);
  await call("/new", { case: "createFile", value: { type: FileType.FILE, mode: 0o751 } });
  assert.equal((await stat("/new")).mode, 0o751);
  const again = { case: "createFile", value: { type: FileType.FILE, mode: 0o600 } } as const;
  assert.equal(await call("/new", again), "EEXIST");
  const contents = Buffer.from("abc");
  assert.equal(await call("/new", { case: "write", value: { offset: 4n, contents } }), 3n);
  await call("/new", { case: "truncate", value: { size: 6n } });
  assert.equal(
    Buffer.from((await call("/new", read(0n, 100))) as Uint8Array).toString(),
    "\0\0\0\0ab",
  );
  await call("/sub", { case: "mkdir", value: { mode: 0o710 } });
  assert.deepEqual(
    [(await stat("/sub")).type, (await stat("/sub")).mode],
    [FileType.DIRECTORY, 0o710],
  );
  await call("/new", { case: "rename", value: to("/sub/moved") });
  await call("/sub/moved", { case: "link", value: to("/d/linked") });
  assert.equal((await stat("/d/linked")).nlink, 2);
  await call("/l", { case: "symlink", value: { target: Buffer.from("d/f") } });
  assert.equal((await stat("/l")).type, FileType.SYMLINK);
  assert.equal(
    String(await call("/l", { case: "readlink", value: {} })),
    String(Buffer.from("d/f")),
  );
  await call("/d/f", { case: "chmod", value: { mode: 0o640 } });
  const time = { seconds: 1_500_000_000n, nanos: 0 };
  await call("/d/f", { case: "utimes", value: { modified: { time } } });
  assert.deepEqual(
    [(await stat("/d/f")).mode, (await stat("/d/f")).modified.seconds],
    [0o640, time.seconds],
  );
  await call("/d/f", { case: "fsync", value: {} });
  assert.equal(await call("/sub", { case: "rmdir", value: {} }), "ENOTEMPTY");
  assert.equal(await call("/sub", UNLINK), "EISDIR");
  assert.equal(await call("/nonesuch", STAT), "ENOENT");
  for (const path of ["/sub/moved", "/l", "/d/linked"]) await call(path, UNLINK);
  await call("/sub", { case: "rmdir", value: {} });
  assert.deepEqual(await names(mounted, "/"), ["d"]);
}

test("memfs is served whole", async () => {
  const { fs: volume } = memfs({ "/some/root/d/f": "hello", "/some/outside": "secret" });
  const mounted = await serve(fs.fromPromises(volume.promises, { root: "/some/root" }));
  try {
    await exercise(mounted);
    await mounted.call("/d/f", { case: "chown", value: { uid: 5, gid: 6 } });
    const { uid, gid } = volume.lstatSync("/some/root/d/f");
    assert.deepEqual([uid, gid], [5, 6]);
  } finally {
    await mounted.end();
  }
});

test("node:fs/promises is served whole, and no symlink leads out of the root", async () => {
  const root = mkdtempSync(join(tmpdir(), "lanebox-promises-"));
  mkdirSync(join(root, "top", "d"), { recursive: true });
  writeFileSync(join(root, "top", "d", "f"), "hello");
  writeFileSync(join(root, "secret"), "secret");
  const mounted = await serve(fs.fromPromises(promises, { root: join(root, "top") }));
  try {
    await exercise(mounted);
    symlinkSync("..", join(root, "top", "out"));
    symlinkSync("../secret", join(root, "top", "file"));
    const { call } = mounted;
    assert.equal(await call("/out/secret", STAT), "ENOTDIR");
    assert.equal(await call("/out/secret", read(0n, 10)), "ENOTDIR");
    assert.equal(await call("/file", read(0n, 10)), "ELOOP");
    assert.equal(await call("/file", { case: "truncate", value: { size: 0n } }), "ELOOP");
    assert.equal(await call("/file", { case: "chmod", value: { mode: 0o777 } }), "EOPNOTSUPP");
    assert.equal(await call("/out/new", { case: "mkdir", value: { mode: 0o755 } }), "ENOTDIR");
  } finally {
    await mounted.end();
    rmSync(root, { recursive: true });
  }
});

test("an object with little in it is a read-only mount", async () => {
  const { fs: volume } = memfs({ "/f": "hello" });
  const { lstat, readdir, readFile } = volume.promises;
  const mounted = await serve(fs.fromPromises({ lstat, readdir, readFile }));
  try {
    assert.equal(String(await mounted.call("/f", read(1n, 3))), String(Buffer.from("ell")));
    assert.equal(await mounted.call("/f", UNLINK), "EROFS");
  } finally {
    await mounted.end();
  }
});

test("what is no such object, and wrong options, are refused by name", () => {
  const good = memfs({}).fs.promises;
  const wrong: [unknown, unknown, RegExp][] = [
    [undefined, {}, /^fsPromises: /],
    [{}, {}, /^fsPromises\.lstat: /],
    [{ ...good, lstat: good.lstat, readdir: good.readdir, open: 7 }, {}, /^fsPromises\.open: .*7/],
    [{ lstat: good.lstat, readdir: good.readdir }, {}, /^fsPromises\.readFile: /],
    [good, { root: "relative" }, /^options\.root: .*'relative'/],
    [good, { rot: "/" }, /^options\.rot: unknown/],
    [good, { cacheMs: -1 }, /^options\.cacheMs: /],
    [good, 7, /^options: /],
  ];
  for (const [object, options, message] of wrong) {
    assert.throws(
      () => fs.fromPromises(object as typeof good, options as object),
      (error) => {
        assert(error instanceof SandboxError && error.code === "invalid-argument", String(error));
        assert.match(error.message, message);
        return true;
      },
    );
  }
});
