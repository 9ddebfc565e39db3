/** The debug socket, looked at with a reflection client that is not ours: `buf curl`. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Vm } from "lanebox";
import { boot } from "./support/lane.js";
import { descendants, helpers, namedSockets } from "./support/processes.js";

const run = promisify(execFile);
const buf = fileURLToPath(new URL("../node_modules/.bin/buf", import.meta.url));

describe("the debug socket", () => {
  let folder: string;
  let socket: string;
  let vm: Vm;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "lanebox-debug-"));
    socket = join(folder, "debug.sock");
    vm = await boot({ debugSocket: socket });
  });
  after(async () => {
    await vm?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const curl = (...args: string[]) =>
    run(buf, [
      "curl",
      "--protocol",
      "grpc",
      "--http2-prior-knowledge",
      "--unix-socket",
      socket,
      ...args,
    ]);

  test("is for its owner alone", () => {
    assert.deepEqual(namedSockets(helpers().map(({ pid }) => pid)), [socket]);
    const status = statSync(socket);
    assert.ok(status.isSocket());
    assert.equal(status.mode & 0o777, 0o600);
    assert.equal(status.uid, process.getuid?.());
  });

  test("lists its services by reflection", async () => {
    const { stdout } = await curl("--list-services", "http://lanebox");
    assert.match(stdout, /^lanebox\.v1\.SandboxService$/m);
    assert.match(stdout, /^lanebox\.v1\.ProcessService$/m);
  });

  test("tells the status and runs a command", async () => {
    const status = await curl("http://lanebox/lanebox.v1.SandboxService/GetStatus");
    assert.equal(JSON.parse(status.stdout).state, "STATE_RUNNING");
    const start = JSON.stringify({ start: { command: "echo", args: ["seen"] } });
    const { stdout } = await curl("-d", start, "http://lanebox/lanebox.v1.ProcessService/Run");
    assert.match(stdout, new RegExp(Buffer.from("seen\n").toString("base64")));
    assert.match(stdout, /"exitCode":\s*0/);
  });

  test("cannot boot or shut down", async () => {
    await assert.rejects(curl("http://lanebox/lanebox.v1.SandboxService/Shutdown"));
    assert.equal((await vm.exec("true")).exitCode, 0);
  });

  test("goes away with the lane, and is not there unless asked for", async () => {
    await vm.close();
    assert.deepEqual(readdirSync(folder), []);
    const plain = await boot();
    try {
      const own = [process.pid, ...descendants(process.pid).map(({ pid }) => pid)];
      const named = namedSockets(own);
      assert.deepEqual(named, []);
    } finally {
      await plain.close();
    }
  });
});
