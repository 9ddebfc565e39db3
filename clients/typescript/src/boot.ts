// From checked options to a running lane: files are found, the request is made, the helper started.
import { create } from "@bufbuild/protobuf";
import { findHelper } from "./artifacts.js";
import { AbortError } from "./errors.js";
import {
  type BootRequest,
  BootRequestSchema,
  type BootResponse,
  DiskFormat,
  EngineKind,
  IsolationKind,
} from "./gen/lanebox/v1/sandbox_pb.js";
import { Lane, type LaneOptions } from "./lane.js";
import { planMounts } from "./mounts/boot-mounts.js";
import type { ServedMount } from "./mounts/mount-server.js";
import { checkBootOptions, type Definition } from "./options.js";

/** What a boot needs, all checked. */
export interface BootPlan {
  readonly helper: LaneOptions;
  readonly request: BootRequest;
  /** The mounts that this program serves. */
  readonly mounts: readonly Omit<ServedMount, "warn">[];
  readonly signal: AbortSignal | undefined;
}

const engines = { auto: EngineKind.UNSPECIFIED, krun: EngineKind.KRUN, qemu: EngineKind.QEMU };
const minimums = { hardware: IsolationKind.HARDWARE, emulated: IsolationKind.EMULATED };
const formats = { qcow2: DiskFormat.QCOW2, raw: DiskFormat.RAW };

/** Checks the options of `boot` and finds the files. Starts nothing. */
export function planBoot(definition: Definition, given: unknown): BootPlan {
  const options = checkBootOptions(given, "options");
  const { signal, console, debugSocket, env, cwd, hostname } = options;
  const { rootfs, resources, isolation } = definition;
  rootfs.requireFile();
  const { host, kernel, initramfs } = findHelper();
  const mounts = planMounts(options.mounts);
  const request = create(BootRequestSchema, {
    minimumIsolation: minimums[isolation.minimum],
    engine: engines[isolation.engine],
    cpus: resources.cpus,
    memoryMib: resources.memoryMiB,
    kernel: { path: kernel.path, digest: kernel.digest },
    initramfs: { path: initramfs.path, digest: initramfs.digest },
    root: {
      path: rootfs.path,
      format: formats[rootfs.format],
      digest: rootfs.digest,
      sizeBytes: BigInt(rootfs.sizeBytes),
    },
    hostname,
    cwd,
    env,
    mounts: mounts.map((mount) => mount.request),
  });
  const helper = { helperPath: host.path, console, debugSocket };
  const served = mounts.flatMap((mount) => (mount.served === undefined ? [] : [mount.served]));
  return { helper, request, mounts: served, signal };
}

/** Starts a helper and boots what was planned. When it rejects, nothing is left running. */
export async function bootLane(plan: BootPlan): Promise<[Lane, BootResponse]> {
  const { signal } = plan;
  if (signal?.aborted) throw new AbortError(signal);
  const lane = await Lane.start(plan.helper);
  return [lane, await lane.boot(plan.request, signal, plan.mounts)];
}
