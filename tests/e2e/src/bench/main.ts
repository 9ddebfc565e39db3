/** The benchmarks of one lane, printed as medians and, where there is a peer, as ratios of one run. */

import { statSync } from "node:fs";
import { join } from "node:path";
import { artifacts, imageFile } from "../support/artifacts.js";
import { BUSYBOX, sandbox } from "../support/lane.js";
import { engines, helpers, memoryKiB } from "../support/processes.js";
import { bareMachineLike, bootBare } from "./bare-qemu.js";
import { benchCallbacks } from "./callbacks.js";
import { benchConfinement } from "./confinement.js";
import { benchDisks } from "./disks.js";
import { benchFilesystems } from "./filesystems.js";
import { benchPackages } from "./packages.js";
import { benchProcesses } from "./processes.js";
import { benchRoots } from "./roots.js";
import { median, percentile, report } from "./statistics.js";

const BOOTS = 15;
const EXECS = 300;

async function benchBoot(): Promise<void> {
  const definition = sandbox();
  const first = await definition.boot();
  const [engine] = engines();
  if (engine === undefined) throw new Error("no engine process");
  const kernel = join(artifacts, "linux-x64-gnu/vmlinux");
  const machine = bareMachineLike(engine.pid, kernel, imageFile(BUSYBOX).path);
  await first.close();
  const ours: number[] = [];
  const bare: number[] = [];
  for (let i = 0; i < BOOTS; i++) {
    bare.push(await bootBare(machine));
    const started = performance.now();
    const vm = await definition.boot();
    await vm.exec("true");
    ours.push(performance.now() - started);
    await vm.close();
  }
  report("boot to first exec, ours", `${median(ours).toFixed(0)} ms`);
  report("boot to first answer of a shell, bare QEMU", `${median(bare).toFixed(0)} ms`);
  report("  ratio", `${(median(ours) / median(bare)).toFixed(2)} x`, "goal <= 1.15 x");
}

async function benchExec(): Promise<void> {
  const vm = await sandbox().boot();
  const trip: number[] = [];
  for (let i = 0; i < EXECS; i++) {
    const started = performance.now();
    await vm.exec("true");
    trip.push(performance.now() - started);
  }
  // The peer: the same binary forked and executed by a shell in the guest, timed there.
  const count = 200;
  const loop = `/bin/busybox true; s=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt ${count} ]; do /bin/busybox true; i=$((i+1)); done; e=$(cut -d' ' -f1 /proc/uptime); echo $s $e`;
  const [begin = 0, end = 0] = (await vm.exec("sh", ["-c", loop])).stdout.split(" ").map(Number);
  const inGuest = ((end - begin) * 1000) / count;
  report('exec("true") round trip, p50', `${percentile(trip, 0.5).toFixed(2)} ms`);
  report('exec("true") round trip, p99', `${percentile(trip, 0.99).toFixed(2)} ms`);
  report("fork + exec of the same binary inside the guest", `${inGuest.toFixed(2)} ms`);
  report(
    "  added by exec, p50",
    `${(percentile(trip, 0.5) - inGuest).toFixed(2)} ms`,
    "goal <= 2 ms emulated",
  );

  const [helper] = helpers();
  if (helper === undefined) throw new Error("no helper process");
  report(
    "sandbox-host with an idle VM (PSS, guest memory not in it)",
    `${(memoryKiB(helper.pid) / 1024).toFixed(1)} MiB`,
    "goal <= 20 MiB",
  );
  await vm.close();
}

function benchSizes(): void {
  for (const file of ["initramfs.cpio", "sandbox-host", "vmlinux"]) {
    const bytes = statSync(join(artifacts, "linux-x64-gnu", file)).size;
    report(`size of ${file}`, `${(bytes / 1048576).toFixed(1)} MiB`);
  }
}

/** The folders of programs that scripts/bench has built, and the part that is asked for. */
const [examples = "", programs = "", part = ""] = process.argv.slice(2);

const parts: Record<string, () => Promise<void>> = {
  boot: async () => {
    await benchBoot();
    await benchExec();
    benchSizes();
  },
  packages: benchPackages,
  confinement: benchConfinement,
  processes: benchProcesses,
  callbacks: benchCallbacks,
  files: () => benchFilesystems(join(examples, "serve_fs"), join(programs, "file-work")),
  disk: async () => {
    await benchRoots();
    await benchDisks(join(examples, "serve_block"), join(programs, "block-work"));
  },
};
const run = parts[part];
if (run === undefined) throw new Error(`there is no part '${part}'`);
await run();
