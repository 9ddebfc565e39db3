// The root disk of a boot: what of it goes into the request.
import { create } from "@bufbuild/protobuf";
import {
  DiskFormat,
  OverlaySchema,
  type RootDisk,
  RootDiskSchema,
  type Overlay as WireOverlay,
} from "./gen/lanebox/v1/sandbox_pb.js";
import { RootfsImage } from "./rootfs-image.js";
import type { ServedStore } from "./stores/store-server.js";
import type { Overlay, Rootfs, WritableRootfs } from "./writable-rootfs.js";

const formats = { qcow2: DiskFormat.QCOW2, raw: DiskFormat.RAW };
const MIB = 1024n * 1024n;

/** The name that the root's store is attached by. */
const STORE_ID = "root";

/** The store of a root that this program serves, if it does. */
export function servedStore(rootfs: Rootfs): ServedStore | undefined {
  if (rootfs instanceof RootfsImage || rootfs.overlay.kind !== "callbacks") return undefined;
  return { id: STORE_ID, store: rootfs.overlay.store };
}

/** The disk of a root filesystem. Throws `artifact-missing` when its image is gone. */
export function planRoot(rootfs: Rootfs): RootDisk {
  const image = rootfs instanceof RootfsImage ? rootfs : rootfs.base;
  image.requireFile();
  const { path, format, digest, sizeBytes } = image;
  const disk = { path, format: formats[format], digest, sizeBytes: BigInt(sizeBytes) };
  const overlay = rootfs instanceof RootfsImage ? {} : { overlay: overlayOf(rootfs) };
  return create(RootDiskSchema, { ...disk, ...overlay });
}

function overlayOf({ overlay, sizeMiB }: WritableRootfs): WireOverlay {
  return create(OverlaySchema, {
    store: storeOf(overlay),
    sizeBytes: sizeMiB === undefined ? 0n : BigInt(sizeMiB) * MIB,
  });
}

function storeOf(overlay: Overlay): WireOverlay["store"] {
  switch (overlay.kind) {
    case "memory": {
      const quotaBytes = BigInt(overlay.maxDirtyBytes);
      return { case: "memory", value: { $typeName: "lanebox.v1.MemoryStore", quotaBytes } };
    }
    case "callbacks": {
      const maxDirtyBytes = BigInt(overlay.maxDirtyBytes);
      const value = { $typeName: "lanebox.v1.CallbackStore" as const, id: STORE_ID, maxDirtyBytes };
      return { case: "callbacks", value };
    }
    case "file":
      return { case: "file", value: { $typeName: "lanebox.v1.FileStore", path: overlay.path } };
  }
}
