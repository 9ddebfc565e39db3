import assert from "node:assert/strict";
import * as node from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fs, SandboxError } from "../index.js";
import { Random } from "../testing/random.js";
import type { MemoryFileSystem } from "./memory-file-system.js";

function fails(errno: string): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof SandboxError, String(error));
    assert.equal(error.code, "file-error");
    assert.equal(error.errno, errno, error.message);
    return true;
  };
}

const LINUX = process.platform === "linux";

/** What an operation did: "ok" or an errno. */
async function outcome(work: () => unknown): Promise<string> {
  try {
    await work();
    return "ok";
  } catch (error) {
    return (error as { errno?: string; code?: string }).code === "file-error"
      ? String((error as { errno?: string }).errno)
      : String((error as { code?: string }).code);
  }
}

async function dumpMemory(memory: MemoryFileSystem, path = "/"): Promise<string[]> {
  const lines: string[] = [];
  const entries = await memory.list(path);
  for (const { name, type, mode, nlink } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const at = `${path === "/" ? "" : path}/${name}`;
    if (type === "directory") lines.push(`${at}/ ${mode}`, ...(await dumpMemory(memory, at)));
    else if (type === "symlink") lines.push(`${at} -> ${await memory.readlink(at)} ${nlink}`);
    else lines.push(`${at} ${mode} ${nlink} ${await memory.readFile(at, "latin1")}`);
  }
  return lines;
}

function dumpHost(root: string, path = "/"): string[] {
  const lines: string[] = [];
  for (const name of node.readdirSync(root + path).sort()) {
    const at = `${path === "/" ? "" : path}/${name}`;
    const stat = node.lstatSync(root + at);
    const mode = stat.mode & 0o7777;
    if (stat.isDirectory()) lines.push(`${at}/ ${mode}`, ...dumpHost(root, at));
    else if (stat.isSymbolicLink())
      lines.push(`${at} -> ${node.readlinkSync(root + at)} ${stat.nlink}`);
    else lines.push(`${at} ${mode} ${stat.nlink} ${node.readFileSync(root + at, "latin1")}`);
  }
  return lines;
}

type Step = readonly [string, (memory: MemoryFileSystem) => unknown, (root: string) => unknown];

function step(random: Random): Step {
  const name = () => random.of("a", "b", "c", "d", "l");
  const path = (): string => {
    const parts = [name(), ...Array.from({ length: random.below(3) }, name)];
    if (parts.length > 2 && random.below(4) === 0) parts[1] = "..";
    return `/${parts.join("/")}`;
  };
  const [p, q] = [path(), path()];
  const size = random.below(40);
  const text = `${random.below(100)}`;
  const target = random.of("a", "b/c", "c/../a", "l", "nowhere");
  switch (random.below(11)) {
    case 0:
      return [
        `create ${p}`,
        (m) => m.createFile(p),
        (r) => node.writeFileSync(r + p, "", { flag: "wx" }),
      ];
    case 1:
    case 2:
      return [`mkdir ${p}`, (m) => m.mkdir(p), (r) => node.mkdirSync(r + p)];
    case 3:
      return [
        `symlink ${target} ${p}`,
        (m) => m.symlink(target, p),
        (r) => node.symlinkSync(target, r + p),
      ];
    case 4:
      return [`link ${p} ${q}`, (m) => m.link(p, q), (r) => node.linkSync(r + p, r + q)];
    case 5:
      return [`unlink ${p}`, (m) => m.unlink(p), (r) => node.unlinkSync(r + p)];
    case 6:
      return [`rmdir ${p}`, (m) => m.rmdir(p), (r) => node.rmdirSync(r + p)];
    case 7:
    case 8:
      return [`rename ${p} ${q}`, (m) => m.rename(p, q), (r) => node.renameSync(r + p, r + q)];
    case 9:
      return [`write ${p}`, (m) => m.writeFile(p, text), (r) => node.writeFileSync(r + p, text)];
    default:
      return [
        `truncate ${p} ${size}`,
        (m) => m.truncate(p, size),
        (r) => node.truncateSync(r + p, size),
      ];
  }
}

for (const seed of [11, 12, 13, 14]) {
  test(`random operations end as on the host's own file system (seed ${seed})`, {
    skip: !LINUX,
  }, async () => {
    const random = new Random(seed);
    const memory = fs.memory();
    const root = node.mkdtempSync(join(tmpdir(), "lanebox-tree-"));
    const umask = process.umask(0o022);
    const seen = new Set<string>();
    try {
      for (let i = 0; i < 600; i++) {
        const [what, ours, theirs] = step(random);
        const got = await outcome(() => ours(memory));
        const wanted = await outcome(() => theirs(root));
        seen.add(wanted);
        assert.equal(
          got,
          wanted,
          `seed ${seed}, step ${i}: ${what} in\n${dumpHost(root).join("\n")}`,
        );
        if (i % 20 === 0) assert.deepEqual(await dumpMemory(memory), dumpHost(root), `step ${i}`);
      }
      assert.deepEqual(await dumpMemory(memory), dumpHost(root));
      for (const expected of ["ok", "ENOENT", "EEXIST", "ENOTDIR", "ENOTEMPTY", "EISDIR"]) {
        assert(seen.has(expected), `the steps never ended with ${expected}`);
      }
      const { files, filesFree } = await memory.statfs();
      assert.equal(files - filesFree, dumpHost(root).length);
      for (const { name } of await memory.list("/")) await memory.remove(name, { recursive: true });
      const empty = await memory.statfs();
      assert.equal(empty.filesFree, empty.files);
      assert.equal(empty.blocksFree, empty.blocks);
      assert.equal((await memory.stat("/")).nlink, 2);
    } finally {
      process.umask(umask);
      node.rmSync(root, { recursive: true });
    }
  });
}

test("files are read, written, appended to and replaced, as text and as bytes", async () => {
  const memory = fs.memory({
    files: { "/a/b.txt": "hello", "run.sh": { contents: "x", mode: 0o755 } },
  });
  assert.equal(await memory.readFile("/a/b.txt", "utf8"), "hello");
  assert.deepEqual(await memory.readFile("a/b.txt"), Buffer.from("hello"));
  assert.equal((await memory.stat("run.sh")).mode, 0o755);
  await memory.appendFile("/a/b.txt", " world");
  await memory.appendFile("/a/new", Uint8Array.of(1, 2));
  assert.equal(await memory.readFile("/a/b.txt", "utf8"), "hello world");
  await memory.writeFile("/a/b.txt", "ä", { mode: 0o600 });
  const { sizeBytes, mode, type } = await memory.stat("/a/b.txt");
  assert.deepEqual({ sizeBytes, mode, type }, { sizeBytes: 2, mode: 0o600, type: "file" });
  await memory.writeFile("/deep/er/file", "", { createParents: true });
  assert.deepEqual(
    (await memory.list("/")).map(({ name }) => name),
    ["a", "run.sh", "deep"],
  );
  assert.equal(await memory.exists("/deep/er"), true);
  assert.equal(await memory.exists("/deep/er/no"), false);
  await assert.rejects(memory.readFile("/nonesuch"), fails("ENOENT"));
  await assert.rejects(memory.readFile("/a"), fails("EISDIR"));
  await assert.rejects(memory.writeFile("/", "x"), fails("EISDIR"));
  await assert.rejects(memory.writeFile("/a/b.txt/c", "x"), fails("ENOTDIR"));
  await assert.rejects(memory.readFile("/a/b.txt", "klingon" as BufferEncoding), fails("EINVAL"));
});

test("remove, mkdir and their options", async () => {
  const memory = fs.memory();
  await memory.mkdir("/a/b/c", { recursive: true, mode: 0o700 });
  await memory.mkdir("/a/b", { recursive: true });
  assert.equal((await memory.stat("/a/b/c")).mode, 0o700);
  await assert.rejects(memory.mkdir("/a"), fails("EEXIST"));
  await assert.rejects(memory.remove("/a"), fails("ENOTEMPTY"));
  await assert.rejects(memory.remove("/b"), fails("ENOENT"));
  await memory.remove("/b", { force: true });
  await assert.rejects(memory.remove("/", { recursive: true }), fails("EBUSY"));
  let deep = "/a";
  for (let i = 0; i < 1500; i++) {
    deep += "/d";
    await memory.mkdir(deep);
  }
  await memory.remove("/a", { recursive: true });
  assert.deepEqual(await memory.list("/"), []);
});

test("the rules of times, links and set-id bits", async () => {
  const memory = fs.memory();
  const old = { accessedAtMs: 1000, modifiedAtMs: 2000 };
  await memory.mkdir("/d");
  await memory.writeFile("/d/f", "x");
  const reset = async () => {
    for (const path of ["/d/f", "/d"]) await memory.utimes(path, old);
  };
  const changed = async (path: string) => (await memory.stat(path)).modifiedAtMs !== 2000;
  await reset();
  assert.equal((await memory.stat("/d/f")).modifiedAtNs, 2_000_000_000n);
  await memory.chmod("/d/f", 0o600);
  assert.equal(await changed("/d/f"), false, "chmod is no change of the content");
  await memory.write({ path: "/d/f", offset: 0, contents: Buffer.from("y") });
  assert.equal(await changed("/d/f"), true);
  assert.equal(await changed("/d"), false, "a write is no change of the directory");
  await reset();
  await memory.link("/d/f", "/d/g");
  assert.equal(await changed("/d"), true);
  assert.equal(await changed("/d/f"), false);
  const [f, g] = [await memory.stat("/d/f"), await memory.stat("/d/g")];
  assert.equal(f.ino, g.ino);
  assert.equal(f.nlink, 2);
  await memory.utimes("/d/f", { modifiedAtNs: -1n });
  assert.equal((await memory.stat("/d/g")).modifiedAtNs, -1n, "nanoseconds, also before 1970");
  assert.equal((await memory.stat("/d/g")).accessedAtMs, 1000, "the other time stays");
  await memory.chmod("/d/f", 0o6755);
  await memory.chown("/d/f", 5, 6);
  assert.equal((await memory.stat("/d/f")).mode, 0o755);
  await memory.chown("/d", 0, 7);
  await memory.chmod("/d", 0o2775);
  await memory.mkdir("/d/sub");
  assert.deepEqual(
    [(await memory.stat("/d/sub")).gid, (await memory.stat("/d/sub")).mode],
    [7, 0o2755],
  );
  assert.equal((await memory.stat("/d")).nlink, 3);
});

test("rename heeds its flags", async () => {
  const memory = fs.memory({ files: { "a/x": "1", "b/y/z": "2", c: "3" } });
  await assert.rejects(memory.rename("/c", "/a/x", "no-replace"), fails("EEXIST"));
  await memory.rename("/c", "/a/new", "no-replace");
  await memory.rename("/a/x", "/b/y", "exchange");
  assert.equal(await memory.readFile("/b/y", "utf8"), "1");
  assert.equal(await memory.readFile("/a/x/z", "utf8"), "2");
  assert.deepEqual([(await memory.stat("/a")).nlink, (await memory.stat("/b")).nlink], [3, 2]);
  await assert.rejects(memory.rename("/a", "/nonesuch", "exchange"), fails("ENOENT"));
  await assert.rejects(memory.rename("/a", "/a/x", "exchange"), fails("EINVAL"));
  await assert.rejects(memory.rename("/a/x", "/a", "exchange"), fails("EINVAL"));
  await assert.rejects(memory.rename("/a", "/a/x/q"), fails("EINVAL"));
  await assert.rejects(memory.rename("/", "/a"), fails("EBUSY"));
  await assert.rejects(memory.rename("/a", "/b", "swap" as "exchange"), fails("EINVAL"));
});

test("limits are ENOSPC, and what did not fit has changed nothing", async () => {
  const memory = fs.memory({ maxBytes: 10_000, maxFiles: 3, files: { a: "x".repeat(6000) } });
  await assert.rejects(memory.writeFile("/b", Buffer.alloc(5000)), fails("ENOSPC"));
  assert.equal(await memory.exists("/b"), false);
  await assert.rejects(memory.writeFile("/a", Buffer.alloc(10_001)), fails("ENOSPC"));
  await assert.rejects(memory.appendFile("/a", Buffer.alloc(5000)), fails("ENOSPC"));
  assert.equal(await memory.readFile("/a", "utf8"), "x".repeat(6000));
  await memory.writeFile("/a", Buffer.alloc(10_000));
  await assert.rejects(memory.symlink("target", "/l"), fails("ENOSPC"));
  await assert.rejects(memory.setxattr("/a", "user.x", Buffer.alloc(1)), fails("ENOSPC"));
  await memory.mkdir("/d");
  await memory.link("/a", "/d/a");
  await assert.rejects(memory.link("/a", "/d/b"), fails("ENOSPC"));
  await memory.remove("/a");
  await assert.rejects(memory.symlink("target", "/l"), fails("ENOSPC"), "a name still holds it");
  await memory.remove("/d/a");
  await memory.symlink("target", "/l");
  assert.throws(() => fs.memory({ maxBytes: 1, files: { a: "xx" } }), fails("ENOSPC"));
});

test("names that are not UTF-8 are kept byte by byte and reached as bytes", async () => {
  const memory = fs.memory();
  const raw = Buffer.from([0x2f, 0xff, 0xfe]);
  const other = Buffer.from([0x2f, 0xff, 0xfd]);
  await memory.writeFile(raw, "one");
  await memory.writeFile(other, "two");
  await memory.writeFile("/ÿþ", "three");
  assert.equal((await memory.readFile(raw)).toString(), "one");
  const entries = await memory.list("/");
  assert.deepEqual(
    entries.map(({ rawName }) => Buffer.from(rawName).toString("hex")),
    ["fffe", "fffd", Buffer.from("ÿþ").toString("hex")],
  );
  assert.equal(entries[0]?.name, "\ufffd\ufffd");
  assert.equal(entries[2]?.name, "ÿþ");
  await memory.symlink(Buffer.from([0x80]), "/link");
  await assert.rejects(memory.readlink("/link"), fails("EILSEQ"));
  assert.deepEqual(await memory.readlink("/link", "buffer"), Buffer.from([0x80]));
});

test("paths that cannot be are refused", async () => {
  const memory = fs.memory();
  const long = "n".repeat(256);
  await memory.symlink("loop", "/loop");
  const wrong: [unknown, string][] = [
    ["", "ENOENT"],
    ["a\0b", "EINVAL"],
    ["\ud800", "EINVAL"],
    [7, "EINVAL"],
    [long, "ENAMETOOLONG"],
    [`/${"a/".repeat(2048)}`, "ENAMETOOLONG"],
    ["/loop/x", "ELOOP"],
  ];
  for (const [path, errno] of wrong) {
    await assert.rejects(memory.readFile(path as string), fails(errno), String(path));
  }
  await assert.rejects(memory.mkdir(long), fails("ENAMETOOLONG"));
  await assert.rejects(memory.readFile("/loop"), fails("ELOOP"));
  await assert.rejects(memory.symlink("", "/empty"), fails("ENOENT"));
  await assert.rejects(memory.symlink("t".repeat(4096), "/long"), fails("ENAMETOOLONG"));
  await memory.mkdir("n".repeat(255));
});

test("extended attributes", async () => {
  const memory = fs.memory({ files: { a: "" } });
  await assert.rejects(memory.getxattr("/a", "user.x"), fails("ENODATA"));
  await assert.rejects(
    memory.setxattr("/a", "user.x", Buffer.from("1"), "replace"),
    fails("ENODATA"),
  );
  await memory.setxattr("/a", "user.x", Buffer.from("1"), "create");
  await assert.rejects(
    memory.setxattr("/a", "user.x", Buffer.from("2"), "create"),
    fails("EEXIST"),
  );
  assert.equal((await memory.getxattr("/a", "user.x")).toString(), "1");
  assert.deepEqual((await memory.listxattr("/a")).map(String), ["user.x"]);
  await memory.removexattr("/a", "user.x");
  assert.deepEqual(await memory.listxattr("/a"), []);
  await assert.rejects(memory.setxattr("/a", "x", Buffer.alloc(65 * 1024)), fails("E2BIG"));
});

test("a watcher hears of every change until it stops, and one that throws harms nobody", async () => {
  const memory = fs.memory();
  const seen: unknown[] = [];
  const stop = memory.watch((paths) => seen.push(...paths));
  const warnings: string[] = [];
  const listen = (warning: Error) => warnings.push(warning.message);
  process.on("warning", listen);
  const stopThrowing = memory.watch(() => {
    throw new Error("no");
  });
  await memory.writeFile("/a/b", "x", { createParents: true });
  stopThrowing();
  await memory.symlink("a", "/l");
  await memory.appendFile("/l/b", "y");
  await memory.rename("/a/b", Buffer.from([0x2f, 0xff]));
  await memory.remove("/a");
  stop();
  await memory.remove("/l");
  assert.deepEqual(seen, ["/a", "/a/b", "/l", "/a/b", "/a/b", Buffer.from([0x2f, 0xff]), "/a"]);
  await new Promise(setImmediate);
  process.off("warning", listen);
  assert(warnings.some((text) => /watcher of fs.memory threw: Error: no/.test(text)));
});

test("wrong options of fs.memory are refused by name", () => {
  const wrong: [unknown, RegExp][] = [
    [{ size: 1 }, /^options\.size: unknown/],
    [{ maxBytes: -1 }, /^options\.maxBytes/],
    [{ maxFiles: 0 }, /^options\.maxFiles/],
    [{ files: [] }, /^options\.files/],
    [{ files: { a: 1 } }, /^options\.files\["a"\]\.contents: .*1/],
    [{ files: { a: { contents: "", mode: 0o10000 } } }, /^options\.files\["a"\]\.mode/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(
      () => fs.memory(options as object),
      (error) => {
        assert(error instanceof SandboxError && error.code === "invalid-argument");
        assert.match(error.message, message);
        return true;
      },
    );
  }
});
