/** Mounts that this program serves, in real guests. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type FileSystem, fs, SandboxError, type Vm, type VmEvent } from "lanebox";
import { boot, shell } from "./support/lane.js";

/** Follows the mount errors of a lane. */
function mountErrors(vm: Vm): { wait(target: string): Promise<VmEvent & { type: "mount-error" }> } {
  const seen: (VmEvent & { type: "mount-error" })[] = [];
  let wake: () => void = () => {};
  const done = (async () => {
    for await (const event of vm.events()) {
      if (event.type === "mount-error") seen.push(event);
      wake();
    }
  })();
  return {
    async wait(target) {
      for (;;) {
        const found = seen.find((event) => event.target === target);
        if (found !== undefined) return found;
        const more = new Promise<"more">((resolve) => {
          wake = () => resolve("more");
        });
        const next = await Promise.race([more, done]);
        if (next === undefined) throw new Error(`no mount-error of ${target}`);
      }
    },
  };
}

const oops: FileSystem = {
  stat: async (path) => {
    if (path === "/") return { type: "directory" };
    if (path === "/denied") throw Object.assign(new Error("no"), { code: "EACCES" });
    if (path === "/broken") throw new Error("a defect");
    if (path === "/file") return { type: "file", sizeBytes: 3 };
    throw Object.assign(new Error("not here"), { code: "ENOENT" });
  },
  list: async () => [{ name: "file", type: "file" }],
  read: async () => Buffer.from("abc"),
};

describe("mounts that this program serves", () => {
  const memory = fs.memory({
    files: {
      "hello.txt": "hello from here\n",
      "bin/run.sh": { contents: "#!/bin/sh\necho ran $1\n", mode: 0o755 },
      "bin/plain.sh": "#!/bin/sh\necho ran\n",
    },
    maxBytes: 4 * 1024 * 1024,
  });
  const readable = fs.memory({ files: { a: "kept" } });
  let reads = 0;
  const hung: FileSystem = {
    ...oops,
    read: () => {
      reads += 1;
      return new Promise(() => {});
    },
  };
  let vm: Vm;
  let errors: ReturnType<typeof mountErrors>;
  before(async () => {
    vm = await boot({
      cwd: "/workspace",
      mounts: {
        "/tmp/made/for/it": fs.virtual(oops),
        "/workspace/inner/deep": fs.virtual(readable, { readOnly: true }),
        "/workspace": memory,
        "/mnt/hung": fs.virtual(hung, { deadlineMs: 1000 }),
      },
    });
    errors = mountErrors(vm);
  });
  after(() => vm?.close());

  test("what JavaScript writes the guest sees at once, and the other way round", async () => {
    assert.equal(await shell(vm, "cat hello.txt"), "hello from here");
    for (let i = 0; i < 5; i++) {
      await memory.writeFile("/counter", `${i}`.repeat(i + 1));
      assert.equal(await shell(vm, "cat counter"), `${i}`.repeat(i + 1));
    }
    await shell(vm, "mkdir -p d/e && echo guest > d/e/f && ln -s e/f d/l && ln d/e/f hard");
    assert.equal(await memory.readFile("/d/l", "utf8"), "guest\n");
    assert.equal((await memory.stat("/hard")).nlink, 2);
    assert.equal(await shell(vm, "cat hard"), "guest");
    await memory.remove("/d", { recursive: true });
    assert.equal(await shell(vm, "cat hard"), "guest");
    assert.equal((await vm.exec("test", ["-e", "d"])).exitCode, 1);
    assert.equal(await shell(vm, "cat hard"), "guest");
    assert.equal(await memory.readFile("/hard", "utf8"), "guest\n");
  });

  test("modes, times and owners are kept both ways, and the x bit counts", async () => {
    assert.equal(await shell(vm, "bin/run.sh there"), "ran there");
    assert.equal((await vm.exec("bin/plain.sh")).exitCode, 126);
    await memory.chmod("/bin/plain.sh", 0o755);
    assert.equal(await shell(vm, "bin/plain.sh"), "ran");
    await shell(vm, "touch -d @1234567890 t && chmod 2750 t && chown 12:34 t");
    const { modifiedAtMs, mode, uid, gid } = await memory.stat("/t");
    assert.deepEqual(
      { modifiedAtMs, uid, gid },
      { modifiedAtMs: 1_234_567_890_000, uid: 12, gid: 34 },
    );
    assert.equal(mode & 0o777, 0o750);
    await memory.utimes("/t", { modifiedAtMs: 1000 });
    assert.equal(await shell(vm, "stat -c %Y t"), "1");
  });

  test("an open file that loses its name stays readable", async () => {
    await memory.writeFile("/open", "still here");
    assert.equal(await shell(vm, "exec 3<open; rm open; cat <&3"), "still here");
    assert.equal(await memory.exists("/open"), false);
  });

  test("a full tree is ENOSPC in the guest", async () => {
    const result = await vm.exec("sh", ["-c", "dd if=/dev/zero of=big bs=1M count=8"]);
    assert.notEqual(result.exitCode, 0);
    assert.match(result.stderr, /No space left/);
    await shell(vm, "rm big && echo fits > small");
  });

  test("names that are not UTF-8 survive", async () => {
    await shell(vm, "mkdir raw && touch \"$(printf 'raw/\\377\\376')\"");
    const [entry] = await memory.list("/raw");
    assert.deepEqual(Buffer.from(entry?.rawName ?? []), Buffer.from([0xff, 0xfe]));
    await memory.remove("/raw", { recursive: true });
  });

  test("a mount inside another is there whatever the order, and read-only is refused by the host", async () => {
    assert.equal(await shell(vm, "cat inner/deep/a"), "kept");
    const denied = await vm.exec("sh", [
      "-c",
      "mount -o remount,rw /workspace/inner/deep 2>/dev/null; echo x > inner/deep/a; rm inner/deep/a; touch inner/deep/b; mkdir inner/deep/c",
    ]);
    assert.match(denied.stderr, /Read-only file system/);
    assert.equal(await readable.readFile("/a", "utf8"), "kept");
    assert.deepEqual((await readable.list("/")).length, 1);
  });

  test("what a callback throws is what the guest sees, and nonsense is EIO and an event", async () => {
    const cat = async (name: string) =>
      (await vm.exec("cat", [`/tmp/made/for/it/${name}`])).stderr.trim();
    assert.match(await cat("denied"), /Permission denied$/);
    assert.match(await cat("nonesuch"), /No such file or directory$/);
    assert.match(await cat("broken"), /Input\/output error$/);
    const event = await errors.wait("/tmp/made/for/it");
    assert.equal(event.problem, "wrong-answer");
    assert.match(event.message, /a defect/);
    assert.equal(await shell(vm, "cat /tmp/made/for/it/file"), "abc");
  });

  test("a callback that never answers costs one call EIO and an event, and holds back nobody", async () => {
    const stuck = vm.exec("cat", ["/mnt/hung/file"]);
    assert.equal(await shell(vm, "cat hello.txt"), "hello from here");
    const { exitCode, stderr } = await stuck;
    assert.equal(exitCode, 1);
    assert.match(stderr, /Input\/output error/);
    const event = await errors.wait("/mnt/hung");
    assert.equal(event.problem, "deadline");
    assert(reads > 0);
  });
});

describe("a lane with mounts", () => {
  test("closes in bound while a callback hangs, and its tree goes on in another lane", async () => {
    const memory = fs.memory();
    let asked: () => void = () => {};
    const wasAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const hung: FileSystem = {
      ...oops,
      read: () => {
        asked();
        return new Promise(() => {});
      },
    };
    const first = await boot({ mounts: { "/mnt/hung": fs.virtual(hung), "/workspace": memory } });
    await shell(first, "echo one > /workspace/file");
    const stuck = first.exec("cat", ["/mnt/hung/file"]).catch((error) => error);
    await wasAsked;
    // Its bound is seconds; the deadline of the callback is thirty.
    const began = performance.now();
    await first.close();
    assert(performance.now() - began < 25_000);
    assert(((await stuck) as SandboxError) instanceof SandboxError);
    const second = await boot({ mounts: { "/mnt/again": memory } });
    assert.equal(await shell(second, "cat /mnt/again/file"), "one");
    await second.close();
  });

  test("does not boot with a target that cannot be, and says which and why", async () => {
    const memory = fs.memory({ files: { file: "" } });
    await memory.symlink("/etc", "/link");
    const wrong: [Record<string, ReturnType<typeof fs.memory>>, RegExp][] = [
      [{ "/nonesuch/dir": memory }, /\/nonesuch.*read-only|read-only.*\/nonesuch/i],
      [{ "/etc/passwd": memory }, /\/etc\/passwd/],
      [{ "/mnt": memory, "/mnt/file": fs.memory() }, /\/mnt\/file/],
      [{ "/mnt": memory, "/mnt/link": fs.memory() }, /\/mnt\/link is a symlink/],
    ];
    for (const [mounts, message] of wrong) {
      await assert.rejects(boot({ mounts }), (error) => {
        assert(error instanceof SandboxError, String(error));
        assert.match(error.message, message);
        return true;
      });
    }
  });
});
