import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { helperArguments, NO_GRANTS } from "./grants.js";
import { defineSandbox, fs, network, rootfs } from "./index.js";
import { FAKE_IMAGE, type Setup, setUp } from "./testing/harness.js";

let setup: Setup;
let folder: string;

beforeEach(() => {
  setup = setUp();
  folder = mkdtempSync(join(tmpdir(), "lanebox-grants-"));
});

afterEach(() => {
  setup.remove();
  rmSync(folder, { recursive: true });
});

/** The arguments of the last helper. */
function args(): string {
  return setup.notes().findLast((line) => line.startsWith("args ")) ?? "";
}

test("a helper is granted what its boot uses, and nothing else", async () => {
  const base = rootfs.builtIn(FAKE_IMAGE);
  const path = join(folder, "lane.disk");
  const sandbox = defineSandbox({
    rootfs: rootfs.persistent({ base, path }),
    network: network.rules([]),
  });
  const mask = { paths: ["x"], storage: join(folder) };
  const vm = await sandbox.boot({
    mounts: {
      "/mnt/ro": fs.bind({ source: "/usr", access: "ro" }),
      "/mnt/rw": fs.bind({ source: "/var/tmp", access: "rw", mask }),
      "/mnt/memory": fs.memory(),
    },
  });
  await vm.close();
  const given = args();
  const grants = given.match(/--grant \S+/g) ?? [];
  assert.equal(grants.length, 7, given);
  for (const one of [`create:${path}`, "read:/usr", "write:/var/tmp", `write:${folder}`]) {
    assert(given.includes(`--grant ${one}`), given);
  }
  assert(given.includes("--network"), given);
});

test("confinement and a control group are options of the isolation, and only there", async () => {
  const base = { rootfs: rootfs.builtIn(FAKE_IMAGE) };
  process.env["LANEBOX_CONFINEMENT"] = "off";
  try {
    await (await defineSandbox(base).boot()).close();
    assert(!args().includes("--confinement"), args());
  } finally {
    delete process.env["LANEBOX_CONFINEMENT"];
  }
  const isolation = { confinement: "off", cgroup: "/sys/fs/cgroup/lane" } as const;
  await (await defineSandbox({ ...base, isolation }).boot()).close();
  assert.match(args(), /--confinement off --cgroup \/sys\/fs\/cgroup\/lane$/);
  for (const bad of [
    { confinement: "maybe" },
    { confinement: false },
    { cgroup: "lane" },
    { cgroup: "/a/../b" },
  ]) {
    const [[option]] = Object.entries(bad) as [[string, unknown]];
    assert.throws(() => defineSandbox({ ...base, isolation: bad as object }), {
      code: "invalid-argument",
      message: new RegExp(`options\\.isolation\\.${option}`),
    });
  }
});

test("paths are arguments of their own, whatever is in them", () => {
  const odd = `read:/with space/${"x".repeat(4000)}/--network`;
  const given = helperArguments({ paths: [odd], network: false }, "on", undefined, undefined);
  assert.deepEqual(given, ["--grant", odd]);
  assert.deepEqual(helperArguments(NO_GRANTS, "on", undefined, undefined), []);
});
