/** What confines the helper and its engine, looked at from outside while lanes do their work. */

import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fs, network, rootfs, type Vm, type VmEvent } from "lanebox";
import { BUSYBOX, boot, engineUnderTest, isolation } from "./support/lane.js";
import { engines, eventually, helpers, isAlive } from "./support/processes.js";

/** The fields of a status file of /proc. */
function status(path: string): Map<string, string> {
  const lines = readFileSync(path, "latin1").trim().split("\n");
  return new Map(lines.map((line) => line.split(":\t") as [string, string]));
}

/** The status of each thread of a process. */
function threads(pid: number): Map<string, string>[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).map((thread) => status(`${tasks}/${thread}/status`));
}

/** The helper of the one lane that there is, and its engine, if that is a process. */
function processes(): [helper: number, ...engine: number[]] {
  const [helper, ...others] = helpers();
  assert(helper !== undefined && others.length === 0, "there is one helper");
  return [helper.pid, ...engines().map(({ pid }) => pid)];
}

const namespace = (pid: number | "self", name: string) => readlinkSync(`/proc/${pid}/ns/${name}`);
const SETS = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
/** chown, dac_override, dac_read_search, fowner and fsetid, by their numbers. */
const FILES = 0b11111n;

function assertNoCapabilities(pid: number): void {
  for (const thread of threads(pid)) {
    for (const set of SETS) assert.equal(BigInt(`0x${thread.get(set)}`), 0n, `${pid} ${set}`);
  }
}

function assertFiltered(pid: number): void {
  for (const thread of threads(pid)) {
    assert.equal(thread.get("NoNewPrivs"), "1", `${pid}`);
    assert.equal(thread.get("Seccomp"), "2", `${pid}`);
  }
}

/** The warnings that a lane has told by its end. */
async function warnings(events: AsyncIterable<VmEvent>): Promise<string[]> {
  const found: string[] = [];
  for await (const event of events) if (event.type === "warning") found.push(event.message);
  return found;
}

describe("a confined lane", () => {
  let vm: Vm;
  before(async () => {
    vm = await boot();
  });
  after(() => vm?.close());

  test("no thread has a capability, gains a privilege or makes any system call it likes", () => {
    for (const pid of processes()) {
      assertFiltered(pid);
      assertNoCapabilities(pid);
    }
  });

  test("the helper has a session and namespaces of its own, and its engine is in them", (t) => {
    const [helper, ...engine] = processes();
    const [session] =
      readFileSync(`/proc/${helper}/stat`, "latin1").split(") ").at(-1)?.split(" ").slice(3) ?? [];
    assert.equal(Number(session), helper);
    if (
      !vm.isolation.detail.includes("namespaces") ||
      vm.isolation.detail.includes("no namespaces")
    ) {
      return t.skip(`this host gives none: ${vm.isolation.detail}`);
    }
    for (const name of ["user", "mnt", "ipc", "uts", "net"]) {
      assert.notEqual(namespace(helper, name), namespace("self", name), name);
      for (const pid of engine) assert.equal(namespace(pid, name), namespace(helper, name), name);
    }
  });

  test("it leaves no core, locks no memory and raises no limit", () => {
    for (const pid of processes()) {
      const limits = readFileSync(`/proc/${pid}/limits`, "latin1");
      for (const name of ["Max core file size", "Max locked memory", "Max msgqueue size"]) {
        assert.match(limits, new RegExp(`^${name} +0 +0 `, "m"));
      }
    }
  });

  test("the detail says what is in force", () => {
    const { detail } = vm.isolation;
    assert.match(detail, /confined by seccomp, (Landlock ABI \d+|no Landlock), no capabilities, /);
    assert.equal(detail.includes("Landlock ABI"), !detail.includes("no Landlock"));
  });
});

describe("confined lanes at work", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "lanebox-confined-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("a network leaves the helper in the host's, and its engine without sockets", async () => {
    const vm = await boot({ publish: [{ guestPort: 8000 }] }, { network: network.rules([]) });
    try {
      const [helper] = processes();
      assert.equal(namespace(helper, "net"), namespace("self", "net"));
      for (const pid of processes()) {
        assertFiltered(pid);
        assertNoCapabilities(pid);
      }
    } finally {
      await vm.close();
    }
  });

  test("root keeps for a writable mount what its files need, and nobody else has it", async (t) => {
    if (process.getuid?.() !== 0) return t.skip("it is about root");
    const shared = join(folder, "shared");
    mkdirSync(shared);
    const vm = await boot({ mounts: { "/mnt/shared": fs.bind({ source: shared, access: "rw" }) } });
    try {
      const made =
        "echo a > a && chown 12:34 a && chmod 640 a && mkdir b && mv a b/ && stat -c %u:%g:%a b/a";
      const result = await vm.exec("sh", ["-c", made], { cwd: "/mnt/shared" });
      assert.equal(result.stdout, "12:34:640\n", result.stderr);
      assert.match(
        vm.isolation.detail,
        /capabilities chown\+dac_override\+dac_read_search\+fowner\+fsetid for files/,
      );
      const [helper, ...engine] = processes();
      for (const thread of threads(helper)) {
        for (const set of SETS) assert.equal(BigInt(`0x${thread.get(set)}`) & ~FILES, 0n, set);
        const name = thread.get("Name") ?? "";
        if (["launcher", "engine-keeper", "virtio-control"].includes(name)) {
          assert.equal(BigInt(`0x${thread.get("CapEff")}`), 0n, name);
        }
      }
      for (const pid of engine)
        assert.equal(BigInt(`0x${status(`/proc/${pid}/status`).get("CapPrm")}`), 0n);
    } finally {
      await vm.close();
    }
  });

  test("a root is made, kept, flattened, and nothing is left beside it", async () => {
    const kept = join(folder, "kept");
    mkdirSync(kept);
    const root = rootfs.persistent({ base: rootfs.builtIn(BUSYBOX), path: join(kept, "disk") });
    for (const command of ["echo kept > /root/file; sync", "cat /root/file"]) {
      const vm = await boot({}, { rootfs: root });
      try {
        const result = await vm.exec("sh", ["-c", command]);
        assert.equal(result.stdout, command.startsWith("cat") ? "kept\n" : "", result.stderr);
      } finally {
        await vm.close();
      }
    }
    await rootfs.flatten({ format: "qcow2", source: root, dest: join(kept, "flat.qcow2") });
    assert.deepEqual(readdirSync(kept).sort(), ["disk", "flat.qcow2"]);
  });

  test("a helper that is killed in mid-write leaves no engine, no file and a root that opens", async () => {
    const killed = join(folder, "killed");
    mkdirSync(killed);
    const root = rootfs.persistent({ base: rootfs.builtIn(BUSYBOX), path: join(killed, "disk") });
    const vm = await boot({}, { rootfs: root });
    const pids = processes();
    await vm.exec("sh", ["-c", "echo first > /root/first; sync"]);
    const writing = vm.exec("sh", [
      "-c",
      "while :; do dd if=/dev/urandom of=/root/x bs=64k count=64 conv=fsync; done",
    ]);
    writing.catch(() => undefined);
    const size = () => statSize(join(killed, "disk"));
    const before = size();
    assert(await eventually(() => size() > before, 60_000), "it writes");
    process.kill(pids[0], "SIGKILL");
    const end = await vm.closed;
    assert.equal(end.reason, "helper-exited");
    assert.equal(end.signal, "SIGKILL");
    assert(await eventually(() => pids.every((pid) => !isAlive(pid)), 30_000), "an orphan is left");
    assert.deepEqual(readdirSync(killed), ["disk"]);
    const again = await boot({}, { rootfs: root });
    try {
      assert.equal((await again.exec("cat", ["/root/first"])).stdout, "first\n");
    } finally {
      await again.close();
    }
  });

  test("a control group holds the helper and its engine", async (t) => {
    const group = controlGroup();
    if (group === undefined) return t.skip("no cgroup v2 can be made here");
    try {
      const vm = await boot({}, { isolation: { ...isolation(), cgroup: group.path } });
      try {
        for (const pid of processes()) {
          assert.match(
            readFileSync(`/proc/${pid}/cgroup`, "latin1"),
            new RegExp(`^0::.*/${group.name}$`, "m"),
          );
        }
        assert.match(vm.isolation.detail, /, control group$/);
      } finally {
        await vm.close();
      }
    } finally {
      rmdirSync(group.path);
    }
  });

  test("a control group that is none fails the boot, and is named", async () => {
    await assert.rejects(
      boot({}, { isolation: { ...isolation(), cgroup: folder } }),
      (error: Error) => {
        assert.match(error.message, /control group/);
        assert(error.message.includes(folder), error.message);
        return true;
      },
    );
  });

  test("confinement: off is said in the detail and by a warning, and is what it says", async () => {
    const vm = await boot({}, { isolation: { ...isolation(), confinement: "off" } });
    const told = warnings(vm.events());
    try {
      assert.match(vm.isolation.detail, /not confined \(confinement: "off"\)/);
      const [helper] = processes();
      assert.equal(status(`/proc/${helper}/status`).get("Seccomp"), "0");
      assert.equal(namespace(helper, "user"), namespace("self", "user"));
    } finally {
      await vm.close();
    }
    assert(
      (await told).some((message) => message.includes("not confined")),
      "no warning",
    );
  });

  test("a confined lane has no warning, where the host has all walls", async (t) => {
    const vm = await boot({ debugSocket: join(folder, "debug") });
    const told = warnings(vm.events());
    const { detail } = vm.isolation;
    await vm.close();
    assert(!existsSync(join(folder, "debug")));
    const version = Number(/Landlock ABI (\d+)/.exec(detail)?.[1] ?? 0);
    if (version < 6) return t.skip(`this host's kernel lacks walls: ${detail}`);
    const walls = (await told).filter((message) => /confined|Landlock|refused/.test(message));
    assert.deepEqual(walls, [], engineUnderTest());
  });
});

function statSize(path: string): number {
  return statSync(path).size;
}

/** A new control group, where this user may make one. */
function controlGroup(): { readonly path: string; readonly name: string } | undefined {
  const CGROUP2 = 0x63677270;
  const name = `lanebox-test-${process.pid}`;
  for (const root of ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]) {
    try {
      if (statfsSync(root).type !== CGROUP2) continue;
      const path = join(root, name);
      mkdirSync(path);
      return { path, name };
    } catch {
      // Not there, or not ours to change.
    }
  }
  return undefined;
}
