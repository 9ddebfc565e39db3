/** What the confinement of the helper costs: until its first answer, and of a whole boot. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { join } from "node:path";
import { artifacts, imageFile } from "../support/artifacts.js";
import { BUSYBOX, isolation, sandbox } from "../support/lane.js";
import { median, report } from "./statistics.js";

const STARTS = 60;
const BOOTS = 15;
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

export async function benchConfinement(): Promise<void> {
  await benchStarts();
  await benchBoots();
}

/** Milliseconds from starting a helper to its first bytes, its HTTP/2 settings. */
async function start(args: readonly string[]): Promise<number> {
  const began = performance.now();
  const helper = spawn(join(artifacts, "linux-x64-gnu/sandbox-host"), args, {
    stdio: ["ignore", "ignore", "inherit", "pipe"],
    detached: true,
    cwd: "/",
    env: {},
  });
  const socket = helper.stdio[3] as Socket;
  socket.write(PREFACE);
  await once(socket, "data");
  const took = performance.now() - began;
  socket.destroy();
  await once(helper, "exit");
  return took;
}

async function benchStarts(): Promise<void> {
  const file = (name: string) => join(artifacts, "linux-x64-gnu", name);
  const grants = [
    `engine:${file("vmlinux")}`,
    `engine:${file("initramfs.cpio")}`,
    `read:${imageFile(BUSYBOX).path}`,
  ];
  const confined = grants.flatMap((grant) => ["--grant", grant]);
  const off = [...confined, "--confinement", "off"];
  const times = { confined: [] as number[], off: [] as number[] };
  for (let round = 0; round < STARTS; round++) {
    times.off.push(await start(off));
    times.confined.push(await start(confined));
  }
  compare("helper start to its first answer", times, "goal: 5 ms more at most");
}

async function benchBoots(): Promise<void> {
  const times = { confined: [] as number[], off: [] as number[] };
  const kinds = { off: "off", confined: "on" } as const;
  for (let round = 0; round < BOOTS; round++) {
    for (const kind of ["off", "confined"] as const) {
      const definition = sandbox({ isolation: { ...isolation(), confinement: kinds[kind] } });
      const began = performance.now();
      const vm = await definition.boot();
      await vm.exec("true");
      times[kind].push(performance.now() - began);
      await vm.close();
    }
  }
  compare("boot to first exec", times, "goal: 5 ms more at most");
}

function compare(what: string, times: { confined: number[]; off: number[] }, goal: string): void {
  const [confined, off] = [median(times.confined), median(times.off)];
  report(`${what}, confined`, `${confined.toFixed(1)} ms`);
  report(`${what}, not confined`, `${off.toFixed(1)} ms`);
  report("  added by confinement", `${(confined - off).toFixed(1)} ms`, goal);
  report("  ratio", `${(confined / off).toFixed(2)} x`);
}
