/** Images of an OCI registry, pulled by the command line and booted. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type RootfsImageOptions, rootfs, type Vm } from "lanebox";
import { boot, sandbox, shell } from "./support/lane.js";
import { makeLayout, OciRegistry } from "./support/oci-registry.js";

const main = fileURLToPath(new URL("../node_modules/.bin/lanebox", import.meta.url));

describe("lanebox image pull", () => {
  let registry: OciRegistry;
  let folder: string;
  let layout: string;
  const earlier = process.env.XDG_DATA_HOME;

  before(async () => {
    registry = await OciRegistry.start();
    folder = mkdtempSync(join(tmpdir(), "lanebox-oci-"));
    layout = makeLayout(folder);
    process.env.XDG_DATA_HOME = join(folder, "data"); // rootfs.builtIn looks there, too
    await registry.push(layout, "tool", "1");
    await registry.push(layout, "arm", "arm");
  });

  after(async () => {
    if (earlier === undefined) delete process.env.XDG_DATA_HOME;
    else process.env.XDG_DATA_HOME = earlier;
    await registry.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function pull(reference: string, options: string[] = [], from = registry) {
    const env = { ...process.env, XDG_CACHE_HOME: join(folder, "cache"), DOCKER_CONFIG: folder };
    const args = ["image", "pull", ...options, `${from.address}/lane/tool${reference}`];
    return spawnSync(main, args, { env, encoding: "utf8", timeout: 120_000 });
  }

  function pulled(reference: string, options: string[], from: OciRegistry): RootfsImageOptions {
    const { status, stdout, stderr } = pull(reference, ["--json", ...options], from);
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout);
  }

  const files = async (vm: Vm) => {
    assert.equal(
      await shell(vm, "cat /data/first /data/kept/replaced /opaque/above"),
      "firstnewabove",
    );
    assert.equal(await shell(vm, "cd /; ls data data/kept opaque"), LISTING);
    assert.equal(await shell(vm, "stat -c %h /data/first"), "2");
    assert.equal(await shell(vm, "stat -c %a.%u /bin/busybox /workspace"), "4755.0\n755.0");
    assert.equal(await shell(vm, "id -u user"), "1000");
  };

  test("an index's image boots as a root of every kind", async () => {
    const index = await registry.putIndex("both", { arm64: "arm", amd64: "1" });
    const { status, stdout, stderr } = pull(`:both@${index}`);
    assert.equal(status, 0, stderr);
    const name = `127.0.0.1-${registry.address.split(":")[1]}/lane/tool:both`;
    assert.match(stdout, new RegExp(`^name +${name}\npath +.+/rootfs.qcow2\ndigest +sha256:`));
    const image = rootfs.builtIn(name);
    const known = image.facts.map(({ topic, relation, value }) => `${topic} ${relation} ${value}`);
    for (const fact of [
      "distro title Tool 7",
      "oci env TOOL=1",
      'oci cmd ["/bin/sh"]',
      `oci digest ${index}`,
    ]) {
      assert.ok(known.includes(fact), `${fact} is not among ${known.join(", ")}`);
    }
    const plain = await sandbox({ rootfs: image }).boot();
    try {
      await files(plain);
      assert.notEqual((await plain.exec("touch", ["/data/x"])).exitCode, 0);
    } finally {
      await plain.close();
    }
    const path = join(folder, "kept.disk");
    for (const base of [
      rootfs.ephemeral({ base: image }),
      rootfs.persistent({ base: image, path }),
    ]) {
      const vm = await boot({}, { rootfs: base });
      try {
        await files(vm);
        assert.equal(await shell(vm, "touch /data/x && sync && ls /data/x"), "/data/x");
      } finally {
        await vm.close();
      }
    }
  });

  test("zstd layers are the same image, and a second pull is the same file", async () => {
    // skopeo does not pack again what a registry has already.
    const other = await OciRegistry.start();
    let first: RootfsImageOptions;
    let second: RootfsImageOptions;
    try {
      const digest = await other.push(layout, "tool", "1", "--dest-compress-format", "zstd");
      const { layers } = await other.manifest("1");
      assert.ok(layers.length > 2 && layers.every((type) => type.endsWith("zstd")), layers.join());
      first = pulled(`@${digest}`, ["--name", "tool:7"], other);
      rmSync(join(folder, "cache"), { recursive: true });
      second = pulled(`@${digest}`, ["--name", "tool:7"], other);
    } finally {
      await other.close();
    }
    assert.deepEqual(second, first);
    const vm = await boot({}, { rootfs: rootfs.builtIn("tool:7") });
    try {
      await files(vm);
    } finally {
      await vm.close();
    }
    assert.ok(readFileSync(second.path).byteLength === second.sizeBytes);
    const kept = readdirSync(join(folder, "data/lanebox/images"));
    const links = kept.filter((entry) => entry.startsWith("image-"));
    assert.equal(kept.length, 2 * links.length, `nothing is left of the first: ${kept.join(" ")}`);
  });

  test("a tag alone is refused with the digest that it has", async () => {
    const { digest } = await registry.manifest("1");
    const { status, stdout, stderr } = pull(":1");
    assert.deepEqual([status, stdout], [1, ""]);
    assert.match(stderr, /has no digest: a tag may name another image/);
    assert.ok(stderr.includes(`today the tag is ${digest}`), stderr);
  });

  test("an image for other machines is refused by name", async () => {
    const { digest } = await registry.manifest("arm");
    const { status, stderr } = pull(`@${digest}`);
    assert.equal(status, 1);
    assert.match(stderr, /no image for linux\/amd64; there is: linux\/arm64/);
  });
});

const LISTING = [
  "data:\nfirst\nkept\nlink\nsecond\n",
  "data/kept:\nreplaced\n",
  "opaque:\nabove",
].join("\n");
