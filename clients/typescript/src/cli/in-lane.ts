// A VM for one command of the command line: booted as its options say, ended by signals, closed.
import { bootLane, planBoot } from "../boot.js";
import { fs } from "../fs.js";
import type { Lane } from "../lane.js";
import { checkDefinition } from "../options.js";
import { rootfs } from "../rootfs.js";
import type { RunCommand } from "./arguments.js";
import { Interrupt } from "./interrupt.js";

/** What describes the VM; what is left out has the library's default. */
export type LaneOptions = Pick<RunCommand, "image" | "isolation"> &
  Partial<Pick<RunCommand, "cpus" | "memoryMiB" | "mounts">>;

/** Boots, works, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function inLane(
  options: LaneOptions,
  work: (lane: Lane, interrupt: Interrupt) => Promise<number>,
): Promise<number> {
  const definition = checkDefinition({
    rootfs: rootfs.builtIn(options.image),
    resources: { cpus: options.cpus, memoryMiB: options.memoryMiB },
    isolation: { minimum: options.isolation },
  });
  const interrupt = new Interrupt();
  try {
    const mounts = (options.mounts ?? []).map(
      ({ source, target, access }) => [target, fs.bind({ source, access })] as const,
    );
    const plan = planBoot(definition, {
      signal: interrupt.signal,
      mounts: Object.fromEntries(mounts),
    });
    const [lane] = await bootLane(plan);
    try {
      interrupt.holds(lane);
      return await work(lane, interrupt);
    } finally {
      await lane.close();
    }
  } catch (error) {
    if (interrupt.status !== undefined) return interrupt.status;
    throw error;
  } finally {
    interrupt.dispose();
  }
}
