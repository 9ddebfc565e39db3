// Booting and ending, against a stand-in for the helper that dies or hangs at every stage.
import assert from "node:assert/strict";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fs, SandboxError, type VmEvent } from "./index.js";
import { limits } from "./lane.js";
import { helperPackageName } from "./machine.js";
import type { Scenario } from "./testing/fake-helper.js";
import { type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
const normal = { ...limits };
const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

beforeEach(() => {
  Object.assign(limits, normal);
});

/** After each test: no process is left, and no rejection went unhandled. */
afterEach(async () => {
  await new Promise(setImmediate);
  const { length } = setup.alive();
  setup.remove();
  assert.equal(length, 0, "a helper is left");
  assert.deepEqual(unhandled, []);
});

function given(scenario: Omit<Scenario, "log"> = {}): Setup {
  setup = setUp(scenario);
  return setup;
}

function rejection(promise: Promise<unknown>): Promise<SandboxError> {
  return promise.then(
    () => assert.fail("it did not reject"),
    (error) => error,
  );
}

test("a boot gives a VM with its isolation, and a helper with a bare environment", async () => {
  const { sandbox, notes } = given();
  const vm = await sandbox.boot({ env: { A: "b" }, debugSocket: "/run/x.sock" });
  assert.deepEqual(vm.isolation, { kind: "emulated", engine: "qemu", detail: "QEMU 7.2 (fake)" });
  await vm.close();
  assert.deepEqual(await vm.closed, { reason: "closed" });
  assert(notes().includes("env "));
  const args = notes().find((line) => line.startsWith("args ")) ?? "";
  assert.match(
    args,
    /--grant engine:\S+vmlinux --grant engine:\S+ --grant read:\S+ --debug-socket/,
  );
  assert.match(args, / --debug-socket \/run\/x\.sock$/);
  assert(!args.includes("--network") && !args.includes("--confinement"), args);
  assert(notes().includes('boot sandbox 1 512 {"A":"b"}'));
  assert(notes().includes("shutdown 4000"));
});

test("LANEBOX_LOG, and nothing else, passes from our environment to the helper", async () => {
  const { sandbox, notes } = given();
  process.env["LANEBOX_LOG"] = "info";
  try {
    const vm = await sandbox.boot();
    await vm.close();
  } finally {
    delete process.env["LANEBOX_LOG"];
  }
  assert(notes().includes("env LANEBOX_LOG"));
});

test("one definition boots several VMs at once", async () => {
  const { sandbox, alive } = given();
  const vms = await Promise.all([sandbox.boot(), sandbox.boot(), sandbox.boot()]);
  assert.equal(new Set(alive()).size, 3);
  await Promise.all(vms.map((vm) => vm.close()));
});

test("await using closes the VM", async () => {
  const { sandbox } = given();
  const vm = await sandbox.boot();
  await vm[Symbol.asyncDispose]();
  assert.deepEqual(await vm.closed, { reason: "closed" });
});

test("console and events tell of the boot and the end", async () => {
  const { sandbox } = given();
  let console = "";
  const vm = await sandbox.boot({
    console: (text) => {
      console += text;
    },
  });
  const events: string[] = [];
  const reading = (async () => {
    for await (const event of vm.events()) events.push(short(event));
  })();
  await vm.close();
  await reading;
  assert.equal(console, "Linux version 6.1\n");
  assert.deepEqual(events, [
    "lifecycle booting",
    "boot-step start-engine",
    "boot-step mount-root",
    "warning The clock is slow",
    "lifecycle running",
    "lifecycle closing",
    "exited closed",
  ]);
});

function short(event: VmEvent): string {
  switch (event.type) {
    case "lifecycle":
      return `lifecycle ${event.state}`;
    case "boot-step":
      return `boot-step ${event.step}`;
    case "warning":
      return `warning ${event.message}`;
    case "exited":
      return `exited ${event.reason}`;
    default:
      return event.type;
  }
}

test("a boot failure carries step, errno and the console's last lines", async () => {
  const error = await rejection(given({ boot: "fail" }).sandbox.boot());
  assert(error instanceof SandboxError);
  assert.equal(error.code, "boot-failed");
  assert.equal(error.step, "mount-root");
  assert.equal(error.errno, "EINVAL");
  assert.equal(error.consoleTail, "EXT4-fs: bad superblock\n");
  assert.match(error.message, /cannot be mounted \(mount-root, EINVAL\)/);
  assert.match(error.message, /bad superblock/);
  assert.deepEqual(setup.alive(), []);
});

test("isolation that cannot be had is told with a remedy", async () => {
  const error = await rejection(given({ boot: "refuse" }).sandbox.boot());
  assert.equal(error.code, "isolation-unavailable");
  assert.equal(error.remedy, "Load the kvm module");
});

test("a status without detail is a defect, and leaves nothing running", async () => {
  const error = await rejection(given({ boot: "garbage" }).sandbox.boot());
  assert.equal(error.code, "internal");
  assert.match(error.message, /no detail here/);
  assert.deepEqual(setup.alive(), []);
});

test("a helper that dies at its start is told with its last words", async () => {
  const error = await rejection(given({ start: "die" }).sandbox.boot());
  assert.equal(error.code, "sandbox-exited");
  assert.match(error.message, /helper-exited.*exited with status 3.*\nNo fd for me/);
});

test("a helper that dies in the boot is told with the step and the console", async () => {
  const error = await rejection(given({ boot: "die" }).sandbox.boot());
  assert.equal(error.code, "sandbox-exited");
  assert.equal(error.step, "mount-root");
  assert.match(error.message, /boot step mount-root.*SIGKILL/);
  assert.match(error.consoleTail ?? "", /Linux version/);
});

test("a helper that never answers the boot is given up and killed", async () => {
  for (const scenario of [{ start: "hang" }, { boot: "hang" }] as const) {
    setup?.remove();
    const { sandbox } = given(scenario);
    Object.assign(limits, { bootMs: 1000, exitMs: 50 });
    const error = await rejection(sandbox.boot());
    assert.equal(error.code, "timeout");
    assert.deepEqual(setup.alive(), []);
  }
});

test("a helper that is missing or cannot be executed is told as such", async () => {
  const { sandbox, directory } = given();
  const host = join(directory, helperPackageName(), "sandbox-host");
  chmodSync(host, 0o644);
  const denied = await rejection(sandbox.boot());
  assert.equal(denied.code, "artifact-invalid");
  assert.equal(denied.errno, "EACCES");
  rmSync(host);
  assert.equal((await rejection(sandbox.boot())).code, "artifact-missing");
});

test("an aborted signal starts nothing", async () => {
  const { sandbox, notes } = given();
  const error = await rejection(sandbox.boot({ signal: AbortSignal.abort("enough") }));
  assert.equal(error.name, "AbortError");
  assert.equal(error.cause, "enough");
  assert.deepEqual(notes(), []);
});

test("aborting a boot rejects with AbortError and leaves nothing running, even when the helper hangs", async () => {
  for (const scenario of [{ boot: "hang" }, { boot: "hang", immortal: true }] as const) {
    setup?.remove();
    const { sandbox, noted, alive } = given(scenario);
    limits.exitMs = 100;
    const controller = new AbortController();
    const booting = rejection(sandbox.boot({ signal: controller.signal }));
    await noted("boot sandbox 1 512 {}");
    controller.abort(new Error("no more"));
    const error = await booting;
    assert.equal(error.name, "AbortError");
    assert.equal((error as unknown as { code: string }).code, "ABORT_ERR");
    assert.deepEqual(alive(), []);
  }
});

test("aborting the instant the helper starts leaves nothing running", async () => {
  const { sandbox, alive } = given();
  const controller = new AbortController();
  const booting = rejection(sandbox.boot({ signal: controller.signal }));
  controller.abort();
  assert.equal((await booting).name, "AbortError");
  assert.deepEqual(alive(), []);
});

test("an abort after the boot has no effect", async () => {
  const controller = new AbortController();
  const vm = await given().sandbox.boot({ signal: controller.signal });
  controller.abort();
  assert.equal((await vm.exec("echo", ["on"])).stdout, "on\n");
  await vm.close();
});

test("close is idempotent, and concurrent calls all wait for the end", async () => {
  const { sandbox, alive, notes } = given();
  const vm = await sandbox.boot();
  await Promise.all([vm.close(), vm.close(), vm.close()]);
  assert.deepEqual(alive(), []);
  await vm.close();
  assert.equal(notes().filter((line) => line.startsWith("shutdown")).length, 1);
});

test("close ends a helper that hangs in the shutdown, stays after it, or dies in it", async () => {
  for (const scenario of [
    { shutdown: "hang", immortal: true },
    { shutdown: "ok", immortal: true },
    { shutdown: "die" },
  ] as const) {
    setup?.remove();
    const { sandbox, alive } = given(scenario);
    const vm = await sandbox.boot();
    Object.assign(limits, { shutdownMs: 200, closeMs: 500, exitMs: 100 });
    await vm.close();
    assert.deepEqual(alive(), []);
    const { reason } = await vm.closed;
    assert.equal(reason, scenario.shutdown === "ok" ? "closed" : "killed");
    assert.equal((await rejection(vm.exec("echo"))).code, "sandbox-closed");
  }
});

test("close ends a stopped helper", async () => {
  const { sandbox, alive } = given();
  const vm = await sandbox.boot();
  Object.assign(limits, { shutdownMs: 200, closeMs: 500, exitMs: 100 });
  process.kill(alive()[0] ?? assert.fail(), "SIGSTOP");
  await vm.close();
  assert.equal((await vm.closed).reason, "killed");
});

test("a call that is under way when the VM is closed ends, and later ones are refused", async () => {
  const vm = await given().sandbox.boot();
  const hanging = rejection(vm.exec("hang"));
  await vm.exec("echo");
  await vm.close();
  assert.equal((await hanging).code, "sandbox-closed");
  assert.equal((await rejection(vm.exec("echo"))).code, "sandbox-closed");
});

test("when the helper is killed, everything pending rejects and closed resolves", async () => {
  const { sandbox, alive } = given();
  const vm = await sandbox.boot();
  const pending = [rejection(vm.exec("hang")), rejection(vm.exec("hang"))];
  await vm.exec("echo");
  process.kill(alive()[0] ?? assert.fail(), "SIGKILL");
  for (const error of await Promise.all(pending)) {
    assert.equal(error.code, "sandbox-exited");
    assert.match(error.message, /SIGKILL/);
    assert.match(error.consoleTail ?? "", /Linux version/);
  }
  assert.deepEqual(await vm.closed, { reason: "helper-exited", signal: "SIGKILL" });
  assert.equal((await rejection(vm.exec("echo"))).code, "sandbox-exited");
  await vm.close();
});

test("the guest's end is told by its reason, whether or not the helper stays", async () => {
  for (const [command, reason] of [
    ["panic", "guest-panicked"],
    ["poweroff", "guest-stopped"],
  ] as const) {
    setup?.remove();
    const vm = await given().sandbox.boot();
    const error = await rejection(vm.exec(command));
    assert.equal(error.code, "sandbox-exited");
    assert.match(error.message, new RegExp(reason));
    assert.equal(error.consoleTail, "last line\n");
    assert.deepEqual(await vm.closed, { reason });
    await vm.close();
  }
});

test("handles that nobody awaits cause no unhandled rejection", async () => {
  const { sandbox, alive } = given();
  const vm = await sandbox.boot();
  void vm.exec("hang");
  void vm.exec("echo", ["a"], { cwd: "relative" });
  void sandbox.boot({ hostname: "" });
  await vm.exec("echo");
  process.kill(alive()[0] ?? assert.fail(), "SIGKILL");
  await vm.closed;
  void vm.exec("echo");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(unhandled, []);
});

test("mounts are attached before the boot, served while the VM runs, and let go at its end", async () => {
  const { sandbox, notes, noted } = given();
  const memory = fs.memory({ files: { hello: "hello" } });
  const vm = await sandbox.boot({ mounts: { "/b": memory, "/a": fs.virtual(memory) } });
  await noted("answer hello");
  const lines = notes().filter((line) => /^(attach|mount|boot) /.test(line));
  assert.deepEqual(lines.slice(0, 2).sort(), ["attach mount-0 128", "attach mount-1 128"]);
  assert.match(lines[2] ?? "", /^boot /);
  assert.deepEqual(lines.slice(3), ["mount /b callbacks rw", "mount /a callbacks rw"]);
  const events = vm.events();
  for await (const event of events) {
    if (event.type !== "mount-error") continue;
    const { at: _, ...rest } = event;
    assert.deepEqual(rest, {
      type: "mount-error",
      target: "/b",
      problem: "wrong-answer",
      path: "/hello",
      message: "It said no",
    });
    break;
  }
  await vm.close();
  assert.equal(await memory.readFile("/hello", "utf8"), "hello");
  const again = await sandbox.boot({ mounts: { "/c": memory } });
  await again.close();
});

test("a hung callback does not hold back close", async () => {
  const { sandbox, noted } = given();
  let asked: () => void = () => undefined;
  const wasAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  let aborted = false;
  const hung = fs.virtual({
    stat: () => new Promise(() => undefined),
    list: () => new Promise(() => undefined),
    read: ({ signal }) => {
      signal?.addEventListener("abort", () => {
        aborted = true;
      });
      asked();
      return new Promise(() => undefined);
    },
  });
  const vm = await sandbox.boot({ mounts: { "/hung": hung } });
  await noted("mount /hung callbacks rw");
  await wasAsked;
  await vm.close();
  assert.deepEqual(await vm.closed, { reason: "closed" });
  assert.equal(aborted, true);
});

test("a helper that does not take a mount fails the boot, and nothing is left", async () => {
  given({ mounts: "refuse" });
  const mounts = { "/m": fs.memory() };
  const refused = await rejection(setup.sandbox.boot({ mounts }));
  assert.equal(refused.code, "limit-exceeded");
  assert.match(refused.message, /Too many mounts/);
  setup.remove();
  given({ mounts: "hang" });
  limits.attachMs = 50;
  assert.equal((await rejection(setup.sandbox.boot({ mounts }))).code, "timeout");
  assert(!setup.notes().some((line) => line.startsWith("boot ")));
});

test("a boot that is aborted while mounts are attached leaves nothing", async () => {
  const { sandbox, noted } = given({ mounts: "hang" });
  const control = new AbortController();
  const boot = rejection(sandbox.boot({ mounts: { "/m": fs.memory() }, signal: control.signal }));
  await noted("attach mount-0 128");
  control.abort();
  assert.equal((await boot).name, "AbortError");
});
