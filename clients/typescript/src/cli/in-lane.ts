// A VM for one command of the command line: booted as its options say, ended by signals, closed.
import { bootLane, planBoot } from "../boot.js";
import { fs } from "../fs.js";
import type { Lane } from "../lane.js";
import type { PublishedPort } from "../network/published.js";
import type { NetworkRule } from "../network/rules.js";
import { network } from "../network.js";
import { checkDefinition } from "../options.js";
import { rootfs } from "../rootfs.js";
import type { RunCommand } from "./arguments.js";
import { Interrupt } from "./interrupt.js";
import { write } from "./output.js";

/** What describes the VM; what is left out has the library's default. */
export type LaneOptions = Pick<RunCommand, "image" | "persistent" | "isolation"> &
  Partial<Pick<RunCommand, "cpus" | "memoryMiB" | "mounts" | "publish" | "allowHosts">>;

/** Boots, works, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function inLane(
  options: LaneOptions,
  work: (lane: Lane, interrupt: Interrupt) => Promise<number>,
): Promise<number> {
  const definition = checkDefinition({
    rootfs: rootOf(options),
    resources: { cpus: options.cpus, memoryMiB: options.memoryMiB },
    isolation: { minimum: options.isolation },
    network: networkOf(options),
  });
  const interrupt = new Interrupt();
  try {
    const mounts = (options.mounts ?? []).map(
      ({ source, target, access }) => [target, fs.bind({ source, access })] as const,
    );
    const plan = planBoot(definition, {
      signal: interrupt.signal,
      mounts: Object.fromEntries(mounts),
      publish: options.publish,
    });
    const [lane, , { published }] = await bootLane(plan);
    try {
      interrupt.holds(lane);
      await interrupt.race(tellPorts(options, published));
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

function rootOf({ image, persistent }: LaneOptions) {
  const base = rootfs.builtIn(image);
  return persistent === undefined ? base : rootfs.persistent({ base, path: persistent });
}

/** Default deny: what the options name, and nothing else. */
function networkOf({ publish = [], allowHosts = [] }: LaneOptions) {
  if (publish.length === 0 && allowHosts.length === 0) return undefined;
  const rules = allowHosts.flatMap((host): NetworkRule[] => [
    { allow: "dns", host },
    { allow: "http", host },
  ]);
  return network.rules(rules);
}

/** Tells where ports are that were left to the host to choose. */
async function tellPorts(
  { publish = [] }: LaneOptions,
  published: readonly PublishedPort[],
): Promise<void> {
  for (const [index, { guestPort, hostPort, hosts }] of published.entries()) {
    if (publish[index]?.hostPort !== 0) continue;
    const places = hosts.map((host) => (host.includes(":") ? `[${host}]` : host));
    const where = places.map((host) => `${host}:${hostPort}`).join(" and ");
    await write(process.stderr, `lanebox: port ${guestPort} of the guest is at ${where}\n`);
  }
}
