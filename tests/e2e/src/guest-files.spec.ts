/** `vm.fs` in a running lane: what api.md promises under "Guest files". One lane serves all tests. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { SandboxError, type Vm } from "lanebox";
import { boot, shell } from "./support/lane.js";

describe("guest files", () => {
  let vm: Vm;
  let folder: string;
  before(async () => {
    vm = await boot();
    folder = mkdtempSync(join(tmpdir(), "lanebox-fs-"));
  });
  after(async () => {
    await vm?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const fails = (promise: Promise<unknown>, errno: string) =>
    assert.rejects(promise, (error) => {
      assert.ok(error instanceof SandboxError, String(error));
      assert.deepEqual([error.code, error.errno], ["file-error", errno]);
      return true;
    });

  test("writes, reads, and tells what is there", async () => {
    await vm.fs.writeFile("/tmp/a/b/c.txt", "grüße\n", { createParents: true, mode: 0o640 });
    assert.equal(await vm.fs.readFile("/tmp/a/b/c.txt", "utf8"), "grüße\n");
    assert.ok((await vm.fs.readFile("/tmp/a/b/c.txt")).equals(Buffer.from("grüße\n")));
    const range = { offset: 1, length: 3 };
    assert.equal(await vm.fs.readFile("/tmp/a/b/c.txt", { encoding: "utf8", range }), "rü");
    const stat = await vm.fs.stat("/tmp/a/b/c.txt");
    assert.deepEqual([stat.type, stat.sizeBytes, stat.mode, stat.nlink], ["file", 8, 0o640, 1]);
    assert.ok(Math.abs(stat.modifiedAtMs - Date.now()) < 3_600_000);
    await vm.fs.writeFile("/tmp/a/b/c.txt", "more", { flag: "a" });
    assert.equal(await shell(vm, "cat /tmp/a/b/c.txt"), "grüße\nmore");
    await fails(vm.fs.writeFile("/tmp/a/b/c.txt", "", { flag: "wx" }), "EEXIST");
    await fails(vm.fs.writeFile("/tmp/no/such", ""), "ENOENT");
  });

  test("facts tell of the definition, and of what the guest shows", async () => {
    const facts = await vm.environmentFacts();
    const values = (source: string, topic: string, relation: string) =>
      facts
        .filter((fact) => fact.source === source && fact.topic === topic)
        .filter((fact) => fact.relation === relation)
        .map(({ value }) => value);
    assert.deepEqual(values("config", "rootfs", "image"), ["busybox:1.35"]);
    assert.deepEqual(values("guest", "rootfs", "mounted"), ["read-only"]);
    assert.deepEqual(values("guest", "kernel", "release"), [await shell(vm, "uname -r")]);
    assert.deepEqual(values("guest", "shell", "default"), ["/bin/sh"]);
    assert.deepEqual(values("guest", "package-manager", "name"), ["none"]);
    assert.deepEqual(values("guest", "resources", "cpus"), ["1"]);
    assert.deepEqual(values("guest", "network", "interface"), []);
    const commands = values("guest", "command", "exists");
    assert.ok(commands.includes("sh") && commands.includes("tar") && !commands.includes("git"));
    // They are looked at, not remembered.
    await shell(vm, "mount -t tmpfs none /usr/bin");
    const after = await vm.environmentFacts();
    await shell(vm, "umount /usr/bin");
    assert.ok(
      after.filter(({ topic, source }) => topic === "command" && source === "guest").length <
        commands.length,
    );
    await assert.rejects(vm.environmentFacts({ signal: AbortSignal.abort() }), {
      name: "AbortError",
    });
  });

  test("makes, lists, moves, links, changes and removes", async () => {
    await vm.fs.mkdir("/tmp/d/e", { recursive: true });
    await fails(vm.fs.mkdir("/tmp/d"), "EEXIST");
    await vm.fs.mkdir("/tmp/d", { recursive: true });
    await vm.fs.mkdir("/tmp/d/private", { mode: 0o700 });
    await vm.fs.symlink("../target", "/tmp/d/link");
    assert.equal(await vm.fs.readLink("/tmp/d/link"), "../target");
    assert.equal((await vm.fs.stat("/tmp/d/link")).type, "symlink");
    await fails(vm.fs.readLink("/tmp/d/e"), "EINVAL");
    await vm.fs.writeFile(Buffer.from("/tmp/d/\xff\n", "latin1"), "odd");
    const entries = [];
    for await (const entry of vm.fs.readDir("/tmp/d")) entries.push(entry);
    entries.sort((a, b) => Buffer.compare(a.rawName, b.rawName));
    assert.deepEqual(
      entries.map(({ name, rawName, stat }) => [name, rawName.length, stat.type, stat.mode]),
      [
        ["e", 1, "directory", 0o755],
        ["link", 4, "symlink", 0o777],
        ["private", 7, "directory", 0o700],
        ["\ufffd\n", 2, "file", 0o644],
      ],
    );
    await vm.fs.rename("/tmp/d/e", "/tmp/d/f");
    await vm.fs.chmod("/tmp/d/f", 0o1777);
    assert.equal((await vm.fs.stat("/tmp/d/f")).mode, 0o1777);
    await fails(vm.fs.remove("/tmp/d"), "ENOTEMPTY");
    await vm.fs.remove("/tmp/d", { recursive: true });
    await fails(vm.fs.remove("/tmp/d"), "ENOENT");
    await vm.fs.remove("/tmp/d", { force: true });
    await fails(vm.fs.stat("/tmp/d"), "ENOENT");
  });

  test("FIFOs, devices and directories are no content; files of /proc are", async () => {
    await shell(vm, "mkfifo /tmp/fifo");
    for (const path of ["/tmp/fifo", "/dev/zero", "/dev/console"]) {
      await fails(vm.fs.readFile(path), "EINVAL");
      await fails(vm.fs.writeFile(path, "x"), "EINVAL");
    }
    await fails(vm.fs.readFile("/tmp"), "EISDIR");
    assert.match(await vm.fs.readFile("/proc/version", "utf8"), /^Linux/);
    assert.equal((await vm.fs.stat("/proc/version")).sizeBytes, 0);
  });

  test("read-only root, full filesystems and long names are errors with their errno", async () => {
    await fails(vm.fs.writeFile("/etc/new", "x"), "EROFS");
    await shell(vm, "mkdir /tmp/small && mount -t tmpfs -o size=64k small /tmp/small");
    await fails(vm.fs.writeFile("/tmp/small/big", new Uint8Array(1 << 20)), "ENOSPC");
    await vm.fs.writeFile(`/tmp/${"n".repeat(255)}`, "long");
    assert.equal(await vm.fs.readFile(`/tmp/${"n".repeat(255)}`, "utf8"), "long");
    await fails(vm.fs.writeFile(`/tmp/${"n".repeat(256)}`, ""), "ENAMETOOLONG");
    await shell(vm, "touch -d @-86400 /tmp/old; truncate -s 3G /tmp/huge");
    assert.equal((await vm.fs.stat("/tmp/old")).modifiedAtMs, -86_400_000);
    assert.equal((await vm.fs.stat("/tmp/huge")).sizeBytes, 3 * 1024 ** 3);
    const range = { offset: 3 * 1024 ** 3 - 5 };
    assert.equal((await vm.fs.readFile("/tmp/huge", { range })).length, 5);
    await assert.rejects(vm.fs.readFile("/tmp/huge", { maxBytes: 1000 }), {
      code: "limit-exceeded",
      errno: "EFBIG",
    });
  });

  test("streams carry large files, and an unread one costs nobody else anything", async () => {
    const bytes = Buffer.alloc(4 << 20, "0123456789abcdef-");
    const writer = vm.fs.createWriteStream("/tmp/stream").getWriter();
    for (let at = 0; at < bytes.length; at += 100_000) {
      await writer.write(bytes.subarray(at, at + 100_000));
    }
    await writer.close();
    const unread = vm.fs.createReadStream("/tmp/huge").getReader();
    await unread.read();
    const pieces = [];
    for await (const piece of vm.fs.createReadStream("/tmp/stream")) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(bytes));
    await unread.cancel();
    const failing = vm.fs.createWriteStream("/etc/no").getWriter();
    failing.closed.catch(() => undefined);
    await fails(
      (async () => {
        for (;;) await failing.write(bytes);
      })(),
      "EROFS",
    );
  });

  test("an abort ends a call, and wrong arguments are refused before one", async () => {
    await assert.rejects(vm.fs.stat("/", { signal: AbortSignal.abort() }), { name: "AbortError" });
    for (const wrong of ["relative", "", "/a\0b", `/${"x".repeat(4096)}`]) {
      await assert.rejects(vm.fs.stat(wrong), { code: "invalid-argument" });
    }
    await assert.rejects(vm.fs.readFile("/etc/passwd", { colour: 1 } as never), /colour/);
    await assert.rejects(vm.fs.chmod("/tmp", 0o10000), { code: "invalid-argument" });
    assert.throws(() => vm.fs.createReadStream("relative"), { code: "invalid-argument" });
  });

  test("many entries come as a stream", async () => {
    await shell(vm, "mkdir /tmp/many && cd /tmp/many && seq 5000 | xargs touch");
    let count = 0;
    for await (const entry of vm.fs.readDir("/tmp/many")) {
      assert.equal(entry.stat.type, "file");
      count += 1;
    }
    assert.equal(count, 5000);
    for await (const _ of vm.fs.readDir("/tmp/many")) break;
  });

  test("trees go in and out with modes, symlinks, times, holes and odd names", async () => {
    const source = join(folder, "source");
    mkdirSync(join(source, "inner"), { recursive: true });
    writeFileSync(join(source, "inner", "run.sh"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xfe, 0x0a])]), "odd");
    symlinkSync("/etc/passwd", join(source, "link"));
    writeFileSync(join(source, "sparse"), "begin");
    truncateSync(join(source, "sparse"), 8 << 20);
    execFileSync("mkfifo", [join(source, "pipe")]);
    utimesSync(join(source, "inner"), 1, 1_000_000_000.25);
    const heard: number[] = [];
    const onProgress = ({ bytes }: { bytes: number }) => heard.push(bytes);
    const result = await vm.fs.copyIn(source, "/tmp/copy", { onProgress });
    assert.deepEqual(result, { entries: 6, bytes: (8 << 20) + 22, skipped: 1 });
    assert.equal(heard.at(-1), result.bytes);
    assert.equal(
      await shell(vm, "/tmp/copy/inner/run.sh; readlink /tmp/copy/link"),
      "ran\n/etc/passwd",
    );
    assert.equal(
      await shell(vm, "stat -c %Y /tmp/copy/inner; du -k /tmp/copy/sparse | cut -f1"),
      "1000000000\n256",
    );

    await shell(vm, "mkfifo /tmp/copy/fifo; chmod 4755 /tmp/copy/inner/run.sh");
    const target = join(folder, "target");
    const back = await vm.fs.copyOut("/tmp/copy", target);
    assert.deepEqual(back, { entries: 6, bytes: (8 << 20) + 22, skipped: 1 });
    assert.equal(readlinkSync(join(target, "link")), "/etc/passwd");
    assert.equal(statSync(join(target, "inner/run.sh")).mode & 0o7777, 0o755);
    assert.equal(statSync(join(target, "inner")).mtimeMs, 1_000_000_000_250);
    const sparse = statSync(join(target, "sparse"));
    assert.ok(sparse.size === 8 << 20 && sparse.blocks * 512 < 1 << 20);
    assert.equal(
      readFileSync(Buffer.concat([Buffer.from(`${target}/`), Buffer.from([0xfe, 0x0a])]), "utf8"),
      "odd",
    );
    // Once more over what is there.
    assert.equal((await vm.fs.copyOut("/tmp/copy", target)).entries, 6);
  });

  test("a copy out of the guest never follows a symlink on the host", async () => {
    const outside = join(folder, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "file"), "mine");
    const target = join(folder, "trap");
    mkdirSync(target);
    symlinkSync(outside, join(target, "dir"));
    symlinkSync(join(outside, "file"), join(target, "plain"));
    await shell(vm, "mkdir -p /tmp/trap/dir && echo theirs >/tmp/trap/plain");
    await vm.fs.copyOut("/tmp/trap/plain", join(target, "plain"));
    assert.ok(lstatSync(join(target, "plain")).isFile());
    assert.equal(readFileSync(join(outside, "file"), "utf8"), "mine");
    await shell(vm, "echo theirs >/tmp/trap/dir/file");
    await assert.rejects(vm.fs.copyOut("/tmp/trap", target), { code: "EEXIST" });
    assert.equal(readFileSync(join(outside, "file"), "utf8"), "mine");
  });

  test("copies fail with what is wrong", async () => {
    await assert.rejects(vm.fs.copyIn(join(folder, "none"), "/tmp/none"), { code: "ENOENT" });
    await fails(vm.fs.copyOut("/no/such", join(folder, "none")), "ENOENT");
    assert.ok(!existsSync(join(folder, "none")));
    await fails(vm.fs.copyIn(join(folder, "source"), "/etc/copy"), "EROFS");
  });
});
