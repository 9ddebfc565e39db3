// The command line as a program, against the stand-in for the helper.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { FAKE_IMAGE, type Setup, setUp } from "../testing/harness.js";

const main = fileURLToPath(new URL("./main.js", import.meta.url));
const RUN = ["run", "--image", FAKE_IMAGE, "--"];
let setup: Setup;

afterEach(async () => {
  for (let i = 0; i < 400 && setup.alive().length > 0; i++) await pause(10);
  const left = setup.alive();
  setup.remove();
  assert.deepEqual(left, []);
});

interface Run {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  readonly status: Promise<number | null>;
}

function lanebox(args: readonly string[]): Run {
  const child = spawn(process.execPath, [main, ...args], { stdio: "pipe" });
  let out = "";
  let err = "";
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    out += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    err += text;
  });
  child.stdin?.on("error", () => undefined);
  const status = once(child, "close").then(([code]) => code as number | null);
  return { child, out: () => out, err: () => err, status };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await pause(5);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

test("run passes stdin, stdout, stderr and the exit status", async () => {
  setup = setUp();
  const cat = lanebox([...RUN, "cat"]);
  cat.child.stdin?.write("one ");
  await until(() => cat.out() === "one ");
  cat.child.stdin?.end("two");
  assert.equal(await cat.status, 0);
  assert.equal(cat.out(), "one two");
  const echo = lanebox([...RUN, "echo", "-n", "--", "x"]);
  assert.equal(await echo.status, 0);
  assert.equal(echo.out(), "-n -- x\n");
  assert.equal(echo.err(), "noted\n");
  const deaf = lanebox([...RUN, "deaf"]); // its stdin stays open
  assert.equal(await deaf.status, 3);
});

test("run has the status of a shell for signals, timeouts and missing commands", async () => {
  setup = setUp();
  assert.equal(await lanebox([...RUN, "killed"]).status, 137);
  assert.equal(await lanebox([...RUN, "slow"]).status, 124);
  const missing = lanebox([...RUN, "nonesuch"]);
  assert.equal(await missing.status, 127);
  assert.match(missing.err(), /nonesuch/);
  assert.equal(await lanebox([...RUN, "locked"]).status, 126);
});

test("failures of Lanebox are 125 with message and remedy and without a stack", async () => {
  setup = setUp({ boot: "refuse" });
  const refused = lanebox([...RUN, "echo"]);
  assert.equal(await refused.status, 125);
  assert.equal(refused.err(), "lanebox: There is no /dev/kvm\nLoad the kvm module\n");
  const missing = lanebox(["run", "--image", "nosuch:1", "--", "echo"]);
  assert.equal(await missing.status, 125);
  assert.match(missing.err(), /nosuch:1/);
  assert.doesNotMatch(missing.err(), / at .*js/);
});

test("wrong arguments are 2 in one line", async () => {
  setup = setUp();
  const wrong = lanebox(["walk"]);
  assert.equal(await wrong.status, 2);
  assert.match(wrong.err(), /^lanebox: unknown command 'walk'.*\n$/);
});

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  test(`${signal} ends the guest's process, then the VM, with ${status}`, async () => {
    setup = setUp();
    const run = lanebox([...RUN, "hang"]);
    await until(() => run.out() === "here\n");
    run.child.kill(signal);
    assert.equal(await run.status, status);
    const notes = setup.notes();
    const order = ["signal 42 SIGTERM", "signal 42 SIGKILL", "run cancelled", "shutdown 4000"];
    assert.deepEqual(
      notes.filter((line) => order.includes(line)),
      order,
    );
    assert.equal(run.err(), "");
  });
}

test("Ctrl-C during the boot leaves nothing", async () => {
  setup = setUp({ boot: "hang" });
  const run = lanebox([...RUN, "echo"]);
  await setup.noted("boot sandbox 1 512 {}");
  run.child.kill("SIGINT");
  assert.equal(await run.status, 130);
  assert.equal(run.err(), "");
});

test("a second Ctrl-C kills at once, whatever hangs", async () => {
  setup = setUp({ shutdown: "hang", immortal: true });
  const run = lanebox([...RUN, "hang"]);
  await until(() => run.out() === "here\n");
  run.child.kill("SIGINT");
  await setup.noted("signal 42 SIGTERM");
  run.child.kill("SIGINT");
  assert.equal(await run.status, 130);
  assert(!setup.notes().includes("signal 42 SIGKILL"));
});

test("a reader that goes away ends the run quietly", async () => {
  setup = setUp();
  const run = lanebox([...RUN, "flood", "100000"]);
  run.child.stdout?.once("data", () => run.child.stdout?.destroy());
  assert.equal(await run.status, 141);
  assert.equal(run.err(), "");
});

test("a reader that does not read stops the run, and a signal still ends it", async () => {
  setup = setUp();
  const run = lanebox([...RUN, "flood", "100000"]);
  run.child.stdout?.pause();
  await until(() => setup.notes().some((line) => line.startsWith("boot")));
  await pause(500);
  run.child.kill("SIGTERM");
  const [status] = await once(run.child, "exit");
  run.child.stdout?.destroy();
  assert.equal(status, 143);
});

test("ports are published, and told on stderr where the host chose; hosts become rules", async () => {
  setup = setUp();
  const options = ["-p", "80", "-p", "127.0.0.1:8081:81", "--allow-host", "a.example"];
  const run = lanebox(["run", "--image", FAKE_IMAGE, ...options, "--", "echo", "x"]);
  assert.equal(await run.status, 0);
  assert.equal(run.out(), "x\n");
  const [told] = run.err().split("\n");
  assert.equal(told, "lanebox: port 80 of the guest is at 127.0.0.1:40001 and [::1]:40001");
  assert.doesNotMatch(run.err(), /port 81/);
  assert(setup.notes().includes("network none rules 2 "));
  assert(setup.notes().includes("publish 81 8081 127.0.0.1"));
});

test("doctor --verify without a manifest, and setup-macos elsewhere, are errors with a remedy", {
  skip: process.platform === "darwin" ? "this is macOS" : false,
}, async () => {
  setup = setUp();
  const verify = lanebox(["doctor", "--verify"]);
  assert.equal(await verify.status, 1);
  assert.match(verify.err(), /release\.json.*\n.*--manifest FILE/);
  const sign = lanebox(["setup-macos"]);
  assert.equal(await sign.status, 1);
  assert.match(sign.err(), /setup-macos signs the helper for macOS/);
});

test("doctor tells what was found, and ends by whether a VM can be booted", async () => {
  setup = setUp();
  const good = lanebox(["doctor", "--json", "--isolation", "emulated"]);
  assert.equal(await good.status, 0);
  const report = JSON.parse(good.out());
  assert.equal(report.canBoot, true);
  assert.equal(report.versions.host, "0.0.0-fake");
  assert.deepEqual(report.confinement, {
    detail: "helper confined by nothing real",
    missing: ["A wall is missing (fake)"],
  });
  assert.deepEqual(
    report.engines.map(({ engine, isolation, code }: Record<string, string>) => [
      engine,
      isolation,
      code,
    ]),
    [
      ["krun", "hardware", "no-device"],
      ["qemu", "emulated", "ok"],
    ],
  );
  const strict = lanebox(["doctor", "--isolation", "hardware"]);
  assert.equal(await strict.status, 1);
  assert.match(strict.out(), /Load the kvm module/);
  assert.match(
    strict.out(),
    /^walls +helper confined by nothing real\n +A wall is missing \(fake\)$/m,
  );
  assert.match(strict.out(), /--isolation emulated/);
  assert.match(strict.out(), /No VM can be booted here/);
});

test("images lists what is found, for people and for programs", async () => {
  setup = setUp();
  const text = lanebox(["images"]);
  assert.equal(await text.status, 0);
  assert.match(text.out(), /^NAME .*\n(.*\n)*fake:1\.0 /);
  const json = lanebox(["images", "--json"]);
  assert.equal(await json.status, 0);
  const fake = JSON.parse(json.out()).find(({ name }: { name: string }) => name === FAKE_IMAGE);
  assert.match(fake.path, /image-fake\/rootfs\.raw$/);
});

test("image info tells of names and files, for people and for programs", async () => {
  setup = setUp();
  const file = join(setup.directory, "image-fake", "rootfs.raw");
  const named = lanebox(["image", "info", FAKE_IMAGE]);
  assert.equal(await named.status, 0, named.err());
  assert.match(named.out(), /^name {4}fake:1\.0\n(.*\n)*disk {4}6024 bytes .*\n/);
  assert.doesNotMatch(named.out(), /overlay/);
  const json = lanebox(["image", "info", "--json", "--persistent", file, file]);
  assert.equal(await json.status, 0, json.err());
  const { digest, sizeBytes, format, diskBytes, overlayBytes, name } = JSON.parse(json.out());
  assert.match(digest, /^sha256:[0-9a-f]{64}$/);
  assert.deepEqual([sizeBytes, format, diskBytes, overlayBytes], [8, "raw", 6024, 4096]);
  assert.equal(name, undefined);
  assert(setup.notes().includes(`disk ${file} ${file}`));
});

test("image flatten writes and tells what was written", async () => {
  setup = setUp();
  const dest = join(setup.directory, "flat.qcow2");
  const flat = lanebox([
    ...["image", "flatten", "--no-compress", "--cluster-size", "4096"],
    ...[FAKE_IMAGE, dest],
  ]);
  assert.equal(await flat.status, 0, flat.err());
  assert.match(
    flat.out(),
    /^path .*flat\.qcow2\nfile {4}4 bytes .*\ndigest {2}sha256:[0-9a-f]{64}\n$/,
  );
  assert(setup.notes().includes("flatten 4096 false"));
});

test("image commands that fail end with 1 and say why", async () => {
  setup = setUp({ images: "refuse" });
  const inUse = lanebox(["image", "info", FAKE_IMAGE]);
  assert.equal(await inUse.status, 1);
  assert.equal(inUse.err(), "lanebox: The store is in use\n");
  const missing = lanebox(["image", "flatten", "/nonesuch.raw", "/tmp/x"]);
  assert.equal(await missing.status, 1);
  assert.match(missing.err(), /There is no file \/nonesuch\.raw/);
});

test("Ctrl-C ends image flatten with 130", async () => {
  setup = setUp({ images: "hang" });
  const run = lanebox(["image", "flatten", FAKE_IMAGE, join(setup.directory, "flat.qcow2")]);
  await setup.noted("flatten 65536 true");
  run.child.kill("SIGINT");
  assert.equal(await run.status, 130);
  assert.equal(run.err(), "");
});

test("help and version", async () => {
  setup = setUp();
  const help = lanebox(["--help"]);
  assert.equal(await help.status, 0);
  assert.match(help.out(), /run.*doctor.*images/s);
  const version = lanebox(["--version"]);
  assert.equal(await version.status, 0);
  assert.match(version.out(), /^\d+\.\d+\.\d+\n$/);
});
