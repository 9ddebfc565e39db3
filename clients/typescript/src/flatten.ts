// rootfs.flatten: an image with its overlay as one standalone image, by a helper without a VM.
import { create } from "@bufbuild/protobuf";
import { findHelper } from "./artifacts.js";
import { planRoot, servedStore } from "./boot-root.js";
import { AbortError } from "./errors.js";
import { type FlattenRequest, FlattenRequestSchema } from "./gen/lanebox/v1/image_pb.js";
import { diskGrants } from "./grants.js";
import { Lane } from "./lane.js";
import type { ServedStore } from "./stores/store-server.js";
import {
  abortSignal,
  absolutePath,
  boolean,
  type Check,
  callback,
  invalid,
  object,
  oneOf,
  optional,
  withDefault,
} from "./validate.js";
import { handled } from "./wait.js";
import { type Rootfs, rootfsOption, WritableRootfs } from "./writable-rootfs.js";

/** How far it is. */
export interface FlattenProgress {
  /** Bytes of the disk that are done, holes included. */
  readonly positionBytes: number;
  /** Bytes of the disk. */
  readonly sizeBytes: number;
}

/** Options of `rootfs.flatten`. */
export interface FlattenOptions {
  /** The only format there is. */
  readonly format: "qcow2";
  /** What to write: an image, or one with the changes over it. No VM may use it meanwhile. */
  readonly source: Rootfs;
  /** Absolute path of the image to make. It must not be there yet. */
  readonly dest: string;
  /** Bytes of a cluster: a power of two from 4096 to 2097152. Default: 65536. */
  readonly clusterSize?: number | undefined;
  /** Whether clusters are compressed (zlib). Default: true. */
  readonly compress?: boolean | undefined;
  /** Aborting makes it reject with an `AbortError` and leaves no file. */
  readonly signal?: AbortSignal | undefined;
  /** Told now and then, and at the end. */
  readonly onProgress?: ((progress: FlattenProgress) => void) | undefined;
}

/** @internal The check of a root that has something outside of a VM. */
export const keptRootfs: Check<Rootfs> = (value, path) => {
  const rootfs = rootfsOption(value, path);
  if (rootfs instanceof WritableRootfs && rootfs.overlay.kind === "memory") {
    throw invalid(
      path,
      "an image, or a root whose changes are kept somewhere",
      "an ephemeral root",
    );
  }
  return rootfs;
};

/** @internal The check of a cluster's size. */
export const clusterSize: Check<number> = (value, path) => {
  const size = value as number;
  if (!Number.isInteger(size) || size < 4096 || size > 2 ** 21 || (size & (size - 1)) !== 0) {
    throw invalid(path, "a power of two from 4096 to 2097152", value);
  }
  return size;
};

const flattenOptions = object({
  format: oneOf("qcow2"),
  source: keptRootfs,
  dest: absolutePath,
  clusterSize: withDefault(clusterSize, 65_536),
  compress: withDefault(boolean, true),
  signal: optional(abortSignal),
  onProgress: optional(callback<(progress: FlattenProgress) => void>()),
});

type Checked = ReturnType<typeof flattenOptions>;

/** Writes an image with all that lies over it. */
export function flatten(given: FlattenOptions): Promise<void> {
  return handled(run(flattenOptions(given, "options")));
}

async function run(options: Checked): Promise<void> {
  const { signal } = options;
  if (signal?.aborted) throw new AbortError(signal);
  const source = planRoot(options.source);
  const request = create(FlattenRequestSchema, {
    source,
    destination: options.dest,
    clusterBytes: options.clusterSize,
    compress: options.compress,
  });
  const paths = [...diskGrants(source), `create:${options.dest}`];
  const lane = await Lane.start({ helper: findHelper().host, grants: { paths, network: false } });
  try {
    await follow(lane, request, servedStore(options.source), options);
  } finally {
    await lane.abandon();
  }
}

async function follow(
  lane: Lane,
  request: FlattenRequest,
  store: ServedStore | undefined,
  { signal, onProgress }: Checked,
): Promise<void> {
  const answers = lane.images(signal, store, (images, call) => images.flatten(request, call));
  for await (const { positionBytes, sizeBytes } of answers) {
    onProgress?.({ positionBytes: Number(positionBytes), sizeBytes: Number(sizeBytes) });
  }
}
