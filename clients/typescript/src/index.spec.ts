import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { errorCode } from "./error-mapping.js";
import { ErrorCode } from "./gen/lanebox/v1/error_pb.js";
import * as lanebox from "./index.js";

test("the package exports what api.md names and nothing else", () => {
  assert.deepEqual(Object.keys(lanebox).sort(), [
    "SandboxError",
    "defineSandbox",
    "fs",
    "network",
    "rootfs",
  ]);
  assert.deepEqual(Object.keys(lanebox.fs), ["memory", "virtual", "fromPromises", "bind"]);
  assert.deepEqual(Object.keys(lanebox.network), ["policy", "rules", "secrets"]);
  assert.deepEqual(Object.keys(lanebox.rootfs), [
    "builtIn",
    "image",
    "ephemeral",
    "cow",
    "compose",
    "flatten",
    "bytes",
    "persistent",
  ]);
});

test("each code of the protocol is documented under its name, and an unknown one is a defect", () => {
  const documented = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
  for (const code of Object.values(ErrorCode)) {
    if (typeof code !== "number") continue;
    assert.match(documented, new RegExp(`\\| \`${errorCode(code)}\` \\|`));
    assert.match(documented, new RegExp(`\\| "${errorCode(code)}"`));
  }
  assert.equal(errorCode(ErrorCode.SANDBOX_EXITED), "sandbox-exited");
  assert.equal(errorCode(999 as ErrorCode), "internal");
});
