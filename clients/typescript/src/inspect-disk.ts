// How large a disk is, by a helper without a VM.
import { create } from "@bufbuild/protobuf";
import { findHelper } from "./artifacts.js";
import { planRoot, servedStore } from "./boot-root.js";
import { SandboxError } from "./errors.js";
import { InspectDiskRequestSchema } from "./gen/lanebox/v1/image_pb.js";
import { diskGrants } from "./grants.js";
import { Lane } from "./lane.js";
import type { Rootfs } from "./writable-rootfs.js";

/** What was found of a disk. */
export interface DiskSizes {
  /** Bytes of the disk. */
  readonly diskBytes: number;
  /** Bytes of it that may hold anything but zeros. */
  readonly dataBytes: number;
  /** Bytes of the blocks that lie over its image. */
  readonly overlayBytes: number;
}

/** Opens a disk, its image checked against its digest, and measures it. */
export async function inspectDisk(source: Rootfs, signal?: AbortSignal): Promise<DiskSizes> {
  const disk = planRoot(source);
  const request = create(InspectDiskRequestSchema, { source: disk });
  const grants = { paths: diskGrants(disk), network: false };
  const lane = await Lane.start({ helper: findHelper().host, grants });
  try {
    const found = lane.images(signal, servedStore(source), async function* (images, call) {
      yield await images.inspectDisk(request, call);
    });
    for await (const { sizeBytes, dataBytes, overlayBytes } of found) {
      return {
        diskBytes: Number(sizeBytes),
        dataBytes: Number(dataBytes),
        overlayBytes: Number(overlayBytes),
      };
    }
    throw new SandboxError("internal", "The helper did not tell of the disk");
  } finally {
    await lane.abandon();
  }
}
