// spawn and pty against the stand-in for the helper.
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import type { Vm } from "./index.js";
import { type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
let vm: Vm;
const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

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
});

test("what is written comes back, and the end is told", async () => {
  const cat = vm.spawn("cat");
  const writer = cat.stdin.getWriter();
  await writer.write("a");
  await writer.write(Uint8Array.of(0x62));
  await writer.close();
  assert.equal(await text(cat.stdout), "ab");
  assert.deepEqual(await cat.exit, { exitCode: 0, signal: null });
  assert.equal(cat.pid, 42);
});

test("options reach the guest", async () => {
  const shown = vm.spawn("show", ["x"], {
    limits: { nofile: 5, core: { soft: 0, hard: "unlimited" }, as: "unlimited" },
    noNewPrivileges: true,
  });
  const { size, limits, noNewPrivileges, stdin } = JSON.parse(await text(shown.stdout));
  assert.deepEqual([size, noNewPrivileges, stdin], [undefined, true, true]);
  assert.deepEqual(limits, [
    ["as", "undefined", "undefined"],
    ["core", "0", "undefined"],
    ["nofile", "5", "5"],
  ]);
  const terminal = vm.pty("show", [], { size: { rows: 3, cols: 4 } });
  assert.deepEqual(JSON.parse(await text(terminal.output)).size, [3, 4]);
});

test("a start that fails harms nobody who looks at exit alone", async () => {
  assert.deepEqual(await vm.spawn("nothing").exit, { exitCode: 127, signal: null });
  assert.deepEqual(await vm.spawn("locked").exit, { exitCode: 126, signal: null });
  assert.deepEqual(await vm.spawn("homeless").exit, { exitCode: 125, signal: null });
  await assert.rejects(vm.spawn("homeless").ready, { code: "process-not-started" });
  assert.throws(() => vm.spawn("echo", [], { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.throws(() => vm.pty("echo", [], { size: { rows: 0, cols: 1 } }), /options\.size\.rows/);
});

test("exit does not wait for a reader, and what is unread can still be read", async () => {
  const flood = vm.spawn("flood", ["40"]);
  assert.deepEqual(await flood.exit, { exitCode: 9, signal: null });
  await setup.noted("wait 42");
  await assert.rejects(flood.stdin.getWriter().write("x"), { errno: "EPIPE" });
  assert.equal((await text(flood.stdout)).length, 40 * 32 * 1024);
  assert.equal(await flood.kill(), false);
});

test("output that was cancelled does not stop the process", async () => {
  const flood = vm.spawn("flood", ["200"]);
  await flood.stdout.cancel();
  assert.deepEqual(await flood.exit, { exitCode: 0, signal: null });
});

test("kill and resize are calls of their own; of many sizes the last is sent", async () => {
  const hang = vm.pty("hang");
  assert.equal(await hang.kill("SIGWINCH"), true);
  await setup.noted("signal 42 SIGWINCH");
  await Promise.all([5, 6, 7].map((rows) => hang.resize({ rows, cols: 8 })));
  await setup.noted("resize 42 7 8");
  assert.throws(() => hang.kill("TERM"), { code: "invalid-argument" });
});

test("an abort fails the streams at once and terminates the group", async () => {
  const abort = new AbortController();
  const hang = vm.spawn("hang", [], { signal: abort.signal });
  const reader = hang.stdout.getReader();
  await reader.read();
  const writing = hang.stdin.getWriter().write("x");
  abort.abort();
  await assert.rejects(reader.read(), { name: "AbortError" });
  await writing.catch(() => undefined);
  await setup.noted("signal 42 SIGTERM");
});

test("the death of the helper ends everything with sandbox-exited", async () => {
  const doomed = await setup.sandbox.boot();
  const process = doomed.spawn("die");
  await assert.rejects(process.exit, { code: "sandbox-exited" });
  await assert.rejects(text(process.stdout), { code: "sandbox-exited" });
  await assert.rejects(doomed.fs.stat("/"), { code: "sandbox-exited" });
  await doomed.close();
});
