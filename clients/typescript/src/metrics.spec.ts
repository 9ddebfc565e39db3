import assert from "node:assert/strict";
import { test } from "node:test";
import { setUp } from "./testing/harness.js";

test("metrics are numbers in milliseconds and bytes; what is not known is absent", async () => {
  const { sandbox, remove } = setUp();
  const vm = await sandbox.boot();
  assert.deepEqual(await vm.metrics(), {
    uptimeMs: 1.5,
    host: { cpuTimeMs: 2, memoryBytes: 3 },
    disk: { readBytes: 4, writtenBytes: 5 },
    network: { receivedBytes: 6, sentBytes: 7 },
  });
  await vm.close();
  await assert.rejects(vm.metrics(), { code: "sandbox-closed" });
  remove();
});
