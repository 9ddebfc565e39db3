/** `lanebox run -p` and `--allow-host`. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));

describe("lanebox run --publish", { timeout: 120_000 }, () => {
  test("tells the port, leads to it, and gives nothing else", async () => {
    const line = "echo served > /tmp/index.html; exec httpd -f -p 8000 -h /tmp";
    const options = ["--image", "busybox:1.35", "--isolation", "emulated", "-p", "8000"];
    const child = spawn(main, ["run", ...options, "--", "sh", "-c", line], { stdio: "pipe" });
    let told = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      told += text;
    });
    try {
      const port = async () => {
        for (;;) {
          const match = /port 8000 of the guest is at 127\.0\.0\.1:(\d+)/.exec(told);
          if (match) return match[1];
          assert.equal(child.exitCode, null, told);
          await sleep(50);
        }
      };
      const url = `http://127.0.0.1:${await port()}/`;
      for (;;) {
        const text = await fetch(url)
          .then((response) => response.text())
          .catch(() => undefined); // its server is not up yet
        assert.equal(child.exitCode, null, told);
        if (text === undefined) await sleep(50);
        else {
          assert.equal(text, "served\n");
          break;
        }
      }
    } finally {
      const exit = child.exitCode ?? once(child, "exit");
      child.kill("SIGTERM");
      await exit;
    }
  });
});
