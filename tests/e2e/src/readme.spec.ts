/** README.md does what it says: its first program is the example, and it runs as written. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { checkout } from "./support/artifacts.js";

const run = promisify(execFile);

describe("README.md", () => {
  const text = readFileSync(join(checkout, "README.md"), "utf8");
  const program = /```js\n([\s\S]*?)```/.exec(text)?.[1];

  test("shows the example that stands in examples/", () => {
    assert.equal(program, readFileSync(join(checkout, "examples/first-program.mjs"), "utf8"));
  });

  test("has a first program that runs as written", async () => {
    assert.ok(program);
    // Written where the package resolves, as in any project that has installed it.
    const file = fileURLToPath(new URL("./first-program.mjs", import.meta.url));
    writeFileSync(file, program);
    try {
      const { stdout } = await run(process.execPath, [file]);
      assert.match(stdout, /^Linux 6\.1/m);
      assert.match(stdout, /^42$/m);
      assert.match(stdout, /exit code 0, isolation (emulated by qemu|hardware by krun)$/m);
    } finally {
      rmSync(file);
    }
  });

  test("names the two commands, and they are there", () => {
    for (const script of ["scripts/demo", "scripts/test"]) {
      assert.ok(text.includes(script));
      assert.match(readFileSync(join(checkout, script), "utf8"), /^#!\/usr\/bin\/env bash/);
    }
  });
});
