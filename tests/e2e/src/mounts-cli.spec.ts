/** Directories of the host, mounted by `lanebox run --mount`. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));

describe("lanebox run --mount", () => {
  const host = mkdtempSync(join(tmpdir(), "lanebox-cli-mount-"));
  mkdirSync(join(host, "rw"));
  mkdirSync(join(host, "ro"));
  writeFileSync(join(host, "ro", "file"), "kept");
  after(() => rmSync(host, { recursive: true }));

  test("mounts directories, one of them read-only, relative to where it is run", async () => {
    const line =
      "cat /mnt/ro/file > /workspace/made; echo x > /mnt/ro/file; rm /mnt/ro/file; exit 0";
    const options = ["--image", "busybox:1.35", "--isolation", "emulated"];
    const mounts = ["--mount", "rw:/workspace", "--mount", `${host}/ro:/mnt/ro:ro`];
    const stderr = await new Promise<string>((resolve, reject) => {
      const args = ["run", ...options, ...mounts, "--", "sh", "-c", line];
      execFile(main, args, { cwd: host }, (error, _, text) =>
        error ? reject(error) : resolve(text),
      );
    });
    assert.equal(readFileSync(join(host, "rw", "made"), "utf8"), "kept");
    assert.equal(readFileSync(join(host, "ro", "file"), "utf8"), "kept");
    assert.equal(stderr.match(/Read-only file system/g)?.length, 2, stderr);
  });
});
