/** The built-in images boot and are what their descriptors say. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { defineSandbox, rootfs } from "lanebox";
import { artifacts } from "./support/artifacts.js";
import { AGENT, DEBIAN, isolation, shell } from "./support/lane.js";

describe("debian:12", () => {
  test("boots and has its tools", async () => {
    const vm = await defineSandbox({
      rootfs: rootfs.builtIn(DEBIAN),
      resources: { cpus: 2, memoryMiB: 512 },
      isolation: isolation(),
    }).boot({ cwd: "/workspace" });
    try {
      assert.match(await shell(vm, ". /etc/os-release; echo $ID $VERSION_ID"), /^debian 12$/);
      assert.match(await shell(vm, "git --version"), /^git version 2\./);
      assert.match(await shell(vm, "curl --version | head -n 1"), /^curl /);
      await shell(vm, "test -s /etc/ssl/certs/ca-certificates.crt");
      assert.match(await shell(vm, "getent ahosts sandbox"), /^(127\.|::1)/);
      await shell(
        vm,
        "cd /tmp && git init -q r && cd r && git config user.email a@b && git config user.name n && echo x > f && git add f && git commit -qm m && git log --oneline | grep -q m",
      );
      assert.equal(await shell(vm, "su -s /bin/sh -c 'id -u' user"), "1000");
    } finally {
      await vm.close();
    }
  });
});

const agentMissing = existsSync(join(artifacts, "image-debian-12-agent/image.json"))
  ? false
  : "not built here; run: scripts/build-image debian-12-agent";

describe("debian:12-agent", () => {
  test("has Node 24, Python 3, git, curl, jq, ripgrep and a compiler, and they work", {
    skip: agentMissing,
  }, async () => {
    const vm = await defineSandbox({
      rootfs: rootfs.builtIn(AGENT),
      resources: { cpus: 2, memoryMiB: 1024 },
      isolation: isolation(),
    }).boot({ cwd: "/workspace" });
    try {
      assert.match(await shell(vm, "node -v"), /^v24\./);
      assert.equal(await shell(vm, 'node -p \'require("zlib").crc32("a")\''), "3904355907");
      assert.match(await shell(vm, "npm -v"), /^11\./);
      assert.match(await shell(vm, "npx --version"), /^11\./);
      assert.match(await shell(vm, "python3 --version"), /^Python 3\./);
      assert.equal(
        await shell(
          vm,
          // Without pip, which is unpacked byte by byte under emulation; it is there for one with it.
          "cd /tmp && python3 -m venv --without-pip v && python3 -c 'import ensurepip' && v/bin/python -c 'print(6*7)'",
        ),
        "42",
      );
      assert.match(await shell(vm, "python3 -m pip --version"), /^pip /);
      assert.match(await shell(vm, "git --version; curl --version"), /^git version 2.*\ncurl /);
      assert.equal(await shell(vm, `echo '{"a":[1,42]}' | jq '.a[1]'`), "42");
      assert.equal(await shell(vm, "printf 'one\\ntwo\\n' | rg -n tw"), "2:two");
      const program = '#include <stdio.h>\nint main(void) { printf("%d", 6 * 7); return 0; }\n';
      await vm.fs.writeFile("/tmp/program.c", program);
      assert.equal(
        await shell(vm, "cd /tmp && gcc -Wall -O2 -o program program.c && ./program"),
        "42",
      );
      await vm.fs.writeFile("/tmp/Makefile", "all:\n\tg++ -x c++ -o made program.c\n");
      await shell(vm, "cd /tmp && make -s && ./made");
      assert.equal(await shell(vm, "su -s /bin/sh -c 'node -p 6*7' user"), "42");
    } finally {
      await vm.close();
    }
  });
});
