/** Booting, what the guest looks like, and boots that must fail. */

import assert from "node:assert/strict";
import {
  closeSync,
  copyFileSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { defineSandbox, rootfs, SandboxError, type Vm } from "lanebox";
import { artifacts, imageFile, sha256 } from "./support/artifacts.js";
import { BUSYBOX, boot, engineUnderTest, isolation, sandbox, shell } from "./support/lane.js";
import { descendants, engines, eventually, helpers, openDescriptors } from "./support/processes.js";

describe("a booted lane", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot({ hostname: "lane-7" });
  });
  after(() => vm?.close());

  test("tells the isolation that is in force", () => {
    assert.equal(vm.isolation.engine, engineUnderTest());
    assert.equal(vm.isolation.kind, engineUnderTest() === "krun" ? "hardware" : "emulated");
    assert.match(vm.isolation.detail, /\d/);
  });

  test("is an ordinary Linux with its own kernel", async () => {
    assert.match(await shell(vm, "uname -sr"), /^Linux 6\.1\./);
    assert.equal(await shell(vm, "cat /proc/1/comm"), "init");
    for (const path of [
      "/dev/null",
      "/dev/zero",
      "/dev/urandom",
      "/dev/tty",
      "/dev/ptmx",
      "/dev/pts",
      "/dev/shm",
      "/dev/mqueue",
      "/proc/self/fd/0",
      "/dev/fd/0",
      "/dev/stdin",
      "/dev/stderr",
      "/sys/fs/cgroup/cgroup.controllers",
      "/workspace",
      "/run",
      "/tmp",
      "/mnt",
    ]) {
      assert.equal((await vm.exec("test", ["-e", path])).exitCode, 0, path);
    }
  });

  test("has a read-only root with room on /tmp, /run and /mnt", async () => {
    assert.match((await vm.exec("touch", ["/etc/x"])).stderr, /Read-only/);
    for (const path of ["/tmp", "/run", "/mnt", "/dev/shm"])
      await shell(vm, `echo x > ${path}/x && rm ${path}/x`);
    assert.equal(await shell(vm, "stat -c %a /tmp"), "1777");
  });

  test("resolves its own hostname to loopback", async () => {
    assert.equal(await shell(vm, "hostname"), "lane-7");
    assert.equal(await shell(vm, "cat /proc/sys/kernel/hostname"), "lane-7");
    assert.match(await shell(vm, "ping -c 1 lane-7"), /127\.0\.0\.1|::1/);
    assert.match(await shell(vm, "ping -c 1 localhost"), /127\.0\.0\.1|::1/);
  });

  test("has no network device beyond loopback", async () => {
    assert.equal(await shell(vm, "ls /sys/class/net"), "lo");
  });

  test("has the host's time", async () => {
    const guest = Number(await shell(vm, "date +%s")) * 1000;
    assert.ok(Math.abs(guest - Date.now()) < 30_000, String(guest));
  });

  test("has the memory and CPUs that were asked for", async () => {
    const kib = Number(await shell(vm, "awk '/MemTotal/ {print $2}' /proc/meminfo"));
    assert.ok(kib > 190 * 1024 && kib <= 256 * 1024, String(kib));
    assert.equal(await shell(vm, "nproc"), "1");
  });

  test("does not let anybody else open the control port", async () => {
    const found = await shell(vm, "cat /sys/class/virtio-ports/*/name");
    assert.equal(found, "lanebox.control");
    const opened = await vm.exec("sh", ["-c", "cat /dev/vport*p1"], { timeoutMs: 3000 });
    assert.notEqual(opened.exitCode, 0);
    assert.equal((await vm.exec("true")).exitCode, 0);
  });

  test("runs beside a second one, each with its own state", async () => {
    const other = await boot({ hostname: "other" });
    try {
      await shell(vm, "echo mine > /tmp/mark");
      assert.equal((await other.exec("test", ["-e", "/tmp/mark"])).exitCode, 1);
      assert.equal(await shell(other, "hostname"), "other");
      assert.equal(helpers().length, 2);
    } finally {
      await other.close();
    }
    assert.equal(await shell(vm, "cat /tmp/mark"), "mine");
  });
});

describe("closing", () => {
  test("is idempotent, concurrent, and leaves nothing behind", async () => {
    const before = openDescriptors().length;
    const vm = await boot();
    const results = await Promise.all([vm.close(), vm.close(), vm.close()]);
    assert.equal(results.length, 3);
    await vm.close();
    assert.equal((await vm.closed).reason, "closed");
    await assert.rejects(vm.exec("true"), { name: "SandboxError", code: "sandbox-closed" });
    assert.deepEqual(descendants(process.pid), []);
    assert.ok(
      await eventually(() => openDescriptors().length <= before),
      openDescriptors().join("\n"),
    );
  });

  test("ends the processes that still run, and rejects their calls", async () => {
    const vm = await boot();
    const running = vm.exec("sleep", ["600"]);
    running.catch(() => {});
    await sleep(200);
    await vm.close();
    await assert.rejects(running, (error) => error instanceof SandboxError);
  });

  test("events begin with the boot's end and end with the lane", async () => {
    const vm = await boot();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of vm.events()) seen.push(event.type);
    })();
    await vm.close();
    await reading;
    assert.ok(seen.length > 0, "no event at all");
    assert.equal(seen.at(-1), "exited");
  });

  test("ten boots in a row, of one definition", async () => {
    const definition = sandbox();
    for (let i = 0; i < 10; i++) {
      const vm = await definition.boot();
      assert.equal((await vm.exec("echo", [String(i)])).stdout, `${i}\n`);
      await vm.close();
    }
    assert.deepEqual(descendants(process.pid), []);
  });
});

describe("several CPUs and much memory", () => {
  test("4 CPUs, 4096 MiB", async () => {
    const vm = await boot({}, { resources: { cpus: 4, memoryMiB: 4096 } });
    try {
      assert.equal(await shell(vm, "nproc"), "4");
      const kib = Number(await shell(vm, "awk '/MemTotal/ {print $2}' /proc/meminfo"));
      assert.ok(kib > 3.7 * 1024 * 1024, String(kib));
    } finally {
      await vm.close();
    }
  });
});

describe("a boot that cannot succeed", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "lanebox-e2e-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const refused = async (attempt: () => Promise<Vm>, code: string, named: RegExp) => {
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof SandboxError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, named);
      return true;
    });
    assert.ok(await eventually(() => descendants(process.pid).length === 0));
  };
  const bootImage = (
    path: string,
    digest: string,
    sizeBytes: number,
    format: "qcow2" | "raw" = "qcow2",
  ) =>
    defineSandbox({
      rootfs: rootfs.image({
        name: "test:1",
        path,
        format,
        architecture: "x86_64",
        digest,
        sizeBytes,
      }),
      isolation: isolation(),
    }).boot();
  const copied = async (name: string, change: (path: string) => void) => {
    const path = join(folder, name);
    copyFileSync(imageFile(BUSYBOX).path, path);
    change(path);
    const bytes = readFileSync(path);
    return { path, digest: sha256(bytes), size: bytes.length };
  };

  test("minimum hardware is refused on a machine without it, with a remedy that works", async (t) => {
    const attempt = defineSandbox({
      rootfs: rootfs.builtIn(BUSYBOX),
      isolation: { minimum: "hardware" },
    }).boot();
    const error = await attempt.then(
      async (vm) => {
        await vm.close();
        return undefined;
      },
      (reason: unknown) => reason,
    );
    if (error === undefined) return t.skip("this machine has hardware virtualization");
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, "isolation-unavailable");
    assert.match(error.remedy ?? "", /minimum: "emulated"/);
    return undefined;
  });

  test("missing image file", () =>
    refused(
      () => bootImage(join(folder, "none.qcow2"), `sha256:${"0".repeat(64)}`, 1 << 20),
      "artifact-missing",
      /none\.qcow2/,
    ));

  test("image that is not installed", async () => {
    assert.throws(() => rootfs.builtIn("nosuch:1"), { code: "artifact-missing" });
    assert.throws(() => rootfs.builtIn("debian:latest"), SandboxError);
  });

  test("wrong digest", () => {
    const image = imageFile(BUSYBOX);
    return refused(
      () => bootImage(image.path, `sha256:${"0".repeat(64)}`, image.sizeBytes),
      "artifact-invalid",
      /digest|sha256/i,
    );
  });

  test("wrong size", () => {
    const image = imageFile(BUSYBOX);
    return refused(
      () => bootImage(image.path, image.digest, image.sizeBytes + 1),
      "artifact-invalid",
      /size|bytes/i,
    );
  });

  test("truncated image", async () => {
    const image = await copied("truncated.qcow2", (path) => truncateSync(path, 300_000));
    await refused(
      () => bootImage(image.path, image.digest, image.size),
      "artifact-invalid",
      /truncated\.qcow2/,
    );
  });

  test("corrupted image header, tables and not an image at all", async () => {
    const patch = (offset: number, bytes: Buffer) => (path: string) => {
      const fd = openSync(path, "r+");
      writeSync(fd, bytes, 0, bytes.length, offset);
      closeSync(fd);
    };
    const magic = await copied("magic.qcow2", patch(0, Buffer.from("NOPE")));
    await refused(
      () => bootImage(magic.path, magic.digest, magic.size),
      "artifact-invalid",
      /magic\.qcow2/,
    );
    const table = await copied("table.qcow2", patch(40, Buffer.alloc(8, 0xfe)));
    await refused(
      () => bootImage(table.path, table.digest, table.size),
      "artifact-invalid",
      /table\.qcow2/,
    );
  });

  test("an image without a filesystem fails in the step that mounts it", async () => {
    const path = join(folder, "empty.raw");
    const bytes = Buffer.alloc(1 << 20);
    writeFileSync(path, bytes);
    await assert.rejects(bootImage(path, sha256(bytes), bytes.length, "raw"), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "boot-failed");
      assert.match(error.message, /mount-root/);
      assert.equal(error.errno, "EINVAL");
      return true;
    });
  });

  /** A copy of the artifacts whose kernel and initramfs can be taken away or damaged. */
  const damagedArtifacts = (name: string, change: (helperPackage: string) => void) => {
    const copy = join(folder, name);
    cpSync(artifacts, copy, { recursive: true, dereference: true });
    change(join(copy, "linux-x64-gnu"));
    return copy;
  };
  const bootFrom = async (copy: string) => {
    const before = process.env.LANEBOX_ARTIFACTS;
    process.env.LANEBOX_ARTIFACTS = copy;
    try {
      return await sandbox().boot();
    } finally {
      if (before === undefined) delete process.env.LANEBOX_ARTIFACTS;
      else process.env.LANEBOX_ARTIFACTS = before;
    }
  };

  test("a kernel that is not there, or a damaged initramfs", async () => {
    const without = damagedArtifacts("no-kernel", (path) => rmSync(join(path, "vmlinux")));
    await refused(() => bootFrom(without), "artifact-missing", /vmlinux/);
    const damaged = damagedArtifacts("bad-initramfs", (path) => {
      const fd = openSync(join(path, "initramfs.cpio"), "r+");
      writeSync(fd, Buffer.from("damage"), 0, 6, 4096);
      closeSync(fd);
    });
    await refused(() => bootFrom(damaged), "artifact-invalid", /initramfs/);
    await refused(() => bootFrom(join(folder, "nowhere")), "invalid-argument", /nowhere/);
  });

  test("a cwd that does not exist", async () => {
    await assert.rejects(boot({ cwd: "/no/such/place" }), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.equal(error.code, "boot-failed");
      assert.equal(error.errno, "ENOENT");
      assert.match(error.message, /\/no\/such\/place/);
      return true;
    });
    assert.ok(await eventually(() => descendants(process.pid).length === 0));
  });

  test("a network that is none is refused", async () => {
    assert.throws(() => sandbox({ network: {} } as never), { code: "invalid-argument" });
  });

  test("bad options are refused before any process starts", async () => {
    const define: [unknown, RegExp][] = [
      [{}, /rootfs/],
      [{ rootfs: 5 }, /rootfs/],
      [{ resources: { cpus: 0 } }, /cpus/],
      [{ resources: { cpus: 1.5 } }, /cpus/],
      [{ resources: { memoryMiB: 1 } }, /memoryMiB/],
      [{ resources: { ram: 1 } }, /ram/],
      [{ isolation: { minimum: "none" } }, /minimum/],
      [{ isolation: { engine: "xen" } }, /engine/],
      [{ rootFs: 1 }, /rootFs/],
    ];
    for (const [options, named] of define) {
      const full =
        "resources" in (options as object) ||
        "isolation" in (options as object) ||
        "rootFs" in (options as object)
          ? { rootfs: rootfs.builtIn(BUSYBOX), ...(options as object) }
          : options;
      assert.throws(
        () => defineSandbox(full as never),
        (error) =>
          error instanceof SandboxError &&
          error.code === "invalid-argument" &&
          named.test(error.message),
        JSON.stringify(options),
      );
    }
    const bootOptions: [unknown, RegExp][] = [
      [{ hostname: "" }, /hostname/],
      [{ hostname: "-x" }, /hostname/],
      [{ hostname: "a_b" }, /hostname/],
      [{ hostname: "a\0b" }, /hostname/],
      [{ hostname: "x".repeat(65) }, /hostname/],
      [{ cwd: "relative" }, /cwd/],
      [{ cwd: "/a/../b" }, /cwd/],
      [{ cwd: "/\0" }, /cwd/],
      [{ env: { A: "\0" } }, /env/],
      [{ signal: {} }, /signal/],
      [{ nope: 1 }, /nope/],
    ];
    for (const [options, named] of bootOptions) {
      const attempt = (async () => sandbox().boot(options as never))();
      assert.deepEqual(helpers(), []);
      await assert.rejects(
        attempt,
        (error) =>
          error instanceof SandboxError &&
          error.code === "invalid-argument" &&
          named.test(error.message),
        JSON.stringify(options),
      );
    }
    assert.deepEqual(helpers(), []);
  });
});

describe("aborting a boot", () => {
  test("at any moment leaves no process, descriptor or memory file", async () => {
    const before = openDescriptors().length;
    await assert.rejects(boot({ signal: AbortSignal.abort() }), { name: "AbortError" });
    for (const ms of [0, 5, 20, 60, 120, 200, 300, 450, 600, 800, 1000]) {
      const controller = new AbortController();
      const attempt = boot({ signal: controller.signal });
      attempt.catch(() => {});
      await sleep(ms);
      controller.abort();
      const vm = await attempt.catch((error: unknown) => {
        assert.equal((error as Error).name, "AbortError");
        return undefined;
      });
      await vm?.close();
      assert.ok(await eventually(() => descendants(process.pid).length === 0), `after ${ms} ms`);
    }
    assert.deepEqual(engines(), []);
    assert.ok(
      await eventually(() => openDescriptors().length <= before),
      openDescriptors().join("\n"),
    );
  });
});
