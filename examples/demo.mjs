// The main job on real input: the sources of this checkout go into a lane and are worked on there,
// by programs that could be anybody's; a second lane shows what a hostile one can do. Run by
// scripts/demo, which passes the checkout's path.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineSandbox, fs, rootfs } from "lanebox";
import { decideTheNetwork } from "./network.mjs";

const checkout = process.argv[2];
if (checkout === undefined) throw new Error("usage: demo.mjs CHECKOUT");

const started = performance.now();
const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`.padStart(8);
const title = (text) => console.log(`\n${seconds()}  ${text}`);
const show = (text) => console.log(text.trimEnd().replace(/^/gm, "            "));

async function run(vm, line, options) {
  const result = await vm.exec("bash", ["-c", line], options);
  show(`$ ${line.trim().split("\n")[0]}`);
  show(result.stdout + result.stderr);
  if (result.exitCode !== 0) show(`(exit code ${result.exitCode}${result.signal ? `, ${result.signal}` : ""})`);
  return result;
}

async function work(vm) {
  title("an ordinary Linux, with its own kernel");
  await run(vm, "uname -sr; grep PRETTY_NAME /etc/os-release; nproc; head -n 1 /proc/meminfo");

  const archive = execFileSync("git", ["-C", checkout, "archive", "--format=tar", "HEAD"], {
    maxBuffer: 1 << 30,
  });
  title(`the sources of this checkout (${(archive.length / 1e6).toFixed(1)} MB of tar) go in through stdin`);
  await run(vm, "mkdir /tmp/src && tar -x -C /tmp/src && find /tmp/src -type f | wc -l", { stdin: archive });
  await run(vm, "cd /tmp/src && find . -type f -name '*.*' | sed 's/.*\\.//' | sort | uniq -c | sort -rn | head -n 6");
  const digest = "find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";
  await run(vm, `cd /tmp/src && git init -q . && git add -A && git -c user.name=lane -c user.email=lane@example.com commit -qm import && git log --stat --oneline | tail -n 1; ${digest.replace("-type f", "-path ./.git -prune -o -type f")}`);

  title("50 commands at once, each with its own answer");
  const begun = performance.now();
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => vm.exec("sh", ["-c", `echo $((${i} * ${i}))`])),
  );
  const right = answers.filter((a, i) => a.stdout === `${i * i}\n`).length;
  show(`${right} of 50 right, ${(performance.now() - begun).toFixed(0)} ms`);
}

async function workInMounts(sandbox) {
  const project = join(checkout, "examples/project");
  rmSync(join(project, "out"), { recursive: true, force: true });
  const task = fs.memory({ files: { "task.md": "Build the report, test it, and say what came out.\n" } });
  const vm = await sandbox.boot({
    cwd: "/workspace",
    mounts: { "/workspace": fs.bind({ source: project, access: "rw" }), "/mnt/task": task },
  });
  try {
    await run(vm, "grep -E 'workspace|task' /proc/mounts; cat /mnt/task/task.md");
    await run(vm, "./build.sh && ./test.sh | tee /mnt/task/result.txt");
    await task.writeFile("/second.md", "Once more, with one commit added.\n");
    await run(vm, "cat /mnt/task/second.md; cp commits.csv out/more.csv; echo a7,C,900 >> out/more.csv; mv build.sh out/.kept; ln -s out/.kept build.sh; ls -l . out");
    await run(vm, "rm build.sh && mv out/.kept build.sh; ls /mnt/task/../../etc/passwd; ln -s /etc/passwd out/leak && head -n 1 out/leak");
  } finally {
    await vm.close();
  }
  show("closed. What the host has now:");
  show(execFileSync("git", ["-C", checkout, "status", "--short", "--ignored", "examples/project"], { encoding: "utf8" }));
  show(`out/report.txt:\n${readFileSync(join(project, "out/report.txt"), "utf8")}`);
  for (const { name } of await task.list("/")) show(`in memory, ${name}: ${await task.readFile(`/${name}`, "utf8")}`);
}

/** The disk as a raw image, checked by the host's own e2fsck. */
async function check(root, path) {
  const file = await open(path, "w");
  const zeros = Buffer.alloc(1024 * 1024);
  let size = 0;
  for await (const chunk of rootfs.bytes(root)) {
    if (!zeros.equals(chunk)) await file.write(chunk, 0, chunk.byteLength, size);
    size += chunk.byteLength;
  }
  await file.truncate(size);
  await file.close();
  show(execFileSync("/sbin/e2fsck", ["-fn", path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
}

async function surviveAKill(disk) {
  const base = rootfs.builtIn("debian:12");
  const root = rootfs.persistent({ base, path: disk, sizeMiB: 5120 });
  const durable = defineSandbox({
    rootfs: root,
    resources: { cpus: 2, memoryMiB: 768 },
    isolation: { minimum: "emulated" },
  });
  const first = await durable.boot();
  await run(first, "df -h / | tail -n 1; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin && printf 'Package: greeter\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: lane\\nDescription: says hello\\n' > /tmp/p/DEBIAN/control && printf '#!/bin/sh\\necho hello from a package\\n' > /tmp/p/usr/bin/greeter && chmod 755 /tmp/p/usr/bin/greeter && dpkg-deb --build /tmp/p /tmp/greeter.deb");
  await run(first, "dpkg -i /tmp/greeter.deb && sync && greeter");
  await run(first, "(while :; do head -c 4000000 /dev/urandom > /var/noise; done) > /dev/null 2>&1 &");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const [helper] = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").split(" ");
  process.kill(Number(helper), "SIGKILL");
  show(`the helper was killed amid writes: the lane ended with "${(await first.closed).reason}"`);
  let console = "";
  const second = await durable.boot({ console: (text) => (console += text) });
  show(console.split("\n").filter((line) => line.includes("e2fsck")).join("\n"));
  try {
    await run(second, "greeter; dpkg -s greeter | grep Status; dpkg --audit");
  } finally {
    await second.close();
  }
  await check(root, `${disk}.raw`);
  show(`closed. What the lane has changed takes ${(statSync(disk).blocks / 2048).toFixed(1)} MiB on this host`);
}

async function misbehave(vm) {
  title("what a hostile program gets: no network, a read-only root, limits, and an end");
  await run(vm, "ls /sys/class/net; curl -sS --max-time 5 https://example.com");
  await run(vm, "rm -rf --no-preserve-root /usr 2>&1 | head -n 2; kill -9 1; echo PID 1 is $(cat /proc/1/comm)");
  await run(vm, "while :; do :; done", { timeoutMs: 1000 });
  const flood = await vm.exec("sh", ["-c", "head -c 50000000 /dev/zero"], { encoding: "buffer" });
  show(`50 MB on stdout: ${flood.stdout.byteLength} bytes kept, truncated: ${flood.truncated}`);
  const bomb = vm.exec("bash", ["-c", "bomb() { bomb | bomb & }; bomb; sleep 60"]).catch((error) => error.code);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const closing = performance.now();
  await vm.close();
  show(`a fork bomb: close() took ${(performance.now() - closing).toFixed(0)} ms, the call ended with "${await bomb}", the lane with "${(await vm.closed).reason}"`);
}

const sandbox = defineSandbox({
  rootfs: rootfs.builtIn("debian:12"),
  resources: { cpus: 2, memoryMiB: 768 },
  isolation: { minimum: "emulated" },
});
title("booting debian:12 (this demo accepts software emulation, explicitly)");
const vm = await sandbox.boot({ hostname: "demo" });
show(`isolation: ${vm.isolation.kind}, engine ${vm.isolation.engine} (${vm.isolation.detail})`);
try {
  await work(vm);
} finally {
  await vm.close();
}
title("closed; a lane that works in a directory of this checkout, and in files that live in this program");
await workInMounts(sandbox);
title("closed; a lane whose disk survives: something is installed, and the helper killed without warning");
const folder = mkdtempSync(join(tmpdir(), "lanebox-demo-"));
try {
  await surviveAKill(join(folder, "lane.disk"));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
title("closed; a lane with a network that this program decides about, and a credential that it never sees");
await decideTheNetwork({ run, show });
title("a lane for the hostile");
const second = await sandbox.boot();
try {
  await misbehave(second);
} finally {
  await second.close();
}
title("done");
