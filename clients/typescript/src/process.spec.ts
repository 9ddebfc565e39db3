// The streaming call beneath exec, against the stand-in for the helper.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bootLane, planBoot } from "./boot.js";
import type { Lane } from "./lane.js";
import { checkDefinition } from "./options.js";
import { type ProcessSpec, run } from "./process.js";
import { rootfs } from "./rootfs.js";
import { FAKE_IMAGE, type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
let lane: Lane;

before(async () => {
  setup = setUp();
  const definition = checkDefinition({ rootfs: rootfs.builtIn(FAKE_IMAGE) });
  [lane] = await bootLane(planBoot(definition, {}));
});
after(async () => {
  await lane.close();
  const { length } = setup.alive();
  setup.remove();
  assert.equal(length, 0);
});

function spec(command: string, ...args: string[]): ProcessSpec {
  const rest = { cwd: undefined, user: undefined, stdin: undefined };
  return { ...rest, command, args, env: {}, timeoutMs: undefined, maxOutputBytes: undefined };
}

test("events come in order, exited last", async () => {
  const types: string[] = [];
  for await (const event of run(lane, spec("echo", "a"), undefined)) types.push(event.type);
  assert.deepEqual(types, ["started", "stdout", "stderr", "exited"]);
});

test("streams that nobody reads hold back neither other streams nor memory", async () => {
  const unread = Array.from({ length: 40 }, () => run(lane, spec("flood", "1000"), undefined));
  for (const events of unread) assert.equal((await events.next()).value?.type, "started");
  const before = process.memoryUsage().arrayBuffers + process.memoryUsage().external;
  for (let i = 0; i < 50; i++) {
    const types: string[] = [];
    for await (const event of run(lane, spec("echo", "a"), undefined)) types.push(event.type);
    assert.equal(types.at(-1), "exited");
  }
  const grown = process.memoryUsage().arrayBuffers + process.memoryUsage().external - before;
  assert(grown < 40 * 2 * 2 ** 20, `${grown} bytes for 40 streams of 64 MiB that nobody reads`);
  for (const events of unread) await events.return();
});

test("leaving the loop ends the process", async () => {
  for await (const event of run(lane, spec("hang"), undefined)) {
    if (event.type === "stdout") break;
  }
  await setup.noted("run cancelled");
});
