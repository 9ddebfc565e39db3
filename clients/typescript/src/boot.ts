// From checked options to a running lane: files are found, the request is made, the helper started.
import { create } from "@bufbuild/protobuf";
import { findHelper } from "./artifacts.js";
import { planRoot, servedStore } from "./boot-root.js";
import { AbortError } from "./errors.js";
import {
  type BootRequest,
  BootRequestSchema,
  type BootResponse,
  EngineKind,
  IsolationKind,
} from "./gen/lanebox/v1/sandbox_pb.js";
import { diskGrants } from "./grants.js";
import { Lane, type LaneOptions, type Served } from "./lane.js";
import { planMounts } from "./mounts/boot-mounts.js";
import { wireNetwork } from "./network/definition.js";
import { FIRST_POLICY, LaneNetwork, type NetworkPlan } from "./network/lane-network.js";
import { checkBootOptions, type Definition } from "./options.js";
import { invalidUnseen } from "./validate.js";

/** What a boot needs, all checked. */
export interface BootPlan {
  readonly helper: LaneOptions;
  readonly request: BootRequest;
  /** What this program serves. */
  readonly served: Served;
  readonly network: NetworkPlan;
  readonly signal: AbortSignal | undefined;
}

const engines = { auto: EngineKind.UNSPECIFIED, krun: EngineKind.KRUN, qemu: EngineKind.QEMU };
const minimums = { hardware: IsolationKind.HARDWARE, emulated: IsolationKind.EMULATED };

/** Checks the options of `boot` and finds the files. Starts nothing. */
export function planBoot(definition: Definition, given: unknown): BootPlan {
  const options = checkBootOptions(given, "options");
  const { signal, console, debugSocket, env, cwd, hostname } = options;
  const { rootfs, resources, isolation, network } = definition;
  const { publish } = options;
  if (network === undefined && publish.length > 0) {
    const problem = "the definition has no network; network.rules([]) is one that allows nothing";
    throw invalidUnseen("options.publish", problem);
  }
  const taken = network?.secrets.find(({ name }) => Object.hasOwn(env, name));
  if (taken !== undefined) {
    throw invalidUnseen(`options.env.${taken.name}`, "a secret of the network has this name");
  }
  const root = planRoot(rootfs);
  const { host, kernel, initramfs } = findHelper();
  const mounts = planMounts(options.mounts);
  const request = create(BootRequestSchema, {
    minimumIsolation: minimums[isolation.minimum],
    engine: engines[isolation.engine],
    cpus: resources.cpus,
    memoryMib: resources.memoryMiB,
    kernel: { path: kernel.path, digest: kernel.digest },
    initramfs: { path: initramfs.path, digest: initramfs.digest },
    root,
    hostname,
    cwd,
    env,
    mounts: mounts.map((mount) => mount.request),
    ...(network === undefined ? {} : { network: wireNetwork(network, FIRST_POLICY) }),
  });
  const grants = {
    paths: [
      `engine:${kernel.path}`,
      `engine:${initramfs.path}`,
      ...diskGrants(root),
      ...mounts.flatMap((mount) => mount.grants),
    ],
    network: network !== undefined,
  };
  const { confinement, cgroup } = isolation;
  const helper = { helper: host, grants, confinement, cgroup, console, debugSocket };
  const callback = network?.policy?.callback;
  const served: Served = {
    mounts: mounts.flatMap((mount) => (mount.served === undefined ? [] : [mount.served])),
    store: servedStore(rootfs),
    policy: callback && { id: FIRST_POLICY, callback },
  };
  return { helper, request, served, network: { definition: network, publish }, signal };
}

/** Starts a helper and boots what was planned. When it rejects, nothing is left running. */
export async function bootLane(plan: BootPlan): Promise<[Lane, BootResponse, LaneNetwork]> {
  const { signal } = plan;
  if (signal?.aborted) throw new AbortError(signal);
  const lane = await Lane.start(plan.helper);
  const response = await lane.boot(plan.request, signal, plan.served);
  const network = new LaneNetwork(lane, plan.network);
  try {
    for (const port of plan.network.publish) await network.publish(port, signal);
  } catch (error) {
    await lane.abandon();
    throw error;
  }
  return [lane, response, network];
}
