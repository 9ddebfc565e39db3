/** The built-in images boot and are what their descriptors say. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { defineSandbox, rootfs } from "lanebox";
import { DEBIAN, isolation, shell } from "./support/lane.js";

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
