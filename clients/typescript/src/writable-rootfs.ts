// Writable roots: an image that is never written, and where what the guest changes is kept.
import { RootfsImage } from "./rootfs-image.js";
import { blockStore, type SandboxBlockStore } from "./stores/block-store.js";
import {
  absolutePath,
  type Check,
  integer,
  invalid,
  object,
  optional,
  withDefault,
} from "./validate.js";

/** Most MiB that a disk can have: 64 TiB. */
const SIZE_MIB_MAX = 64 * 1024 * 1024;
const MIB = 1024 * 1024;

/** Where the changes of a root are kept. */
export type Overlay =
  | { readonly kind: "memory"; readonly maxDirtyBytes: number }
  | { readonly kind: "file"; readonly path: string }
  | {
      readonly kind: "callbacks";
      readonly store: SandboxBlockStore;
      readonly maxDirtyBytes: number;
    };

/** What every writable root can be given. */
export interface WritableOptions {
  /** The image below it, from `rootfs.builtIn` or `rootfs.image`. It is never written. */
  readonly base: RootfsImage;
  /**
   * Size of the disk in MiB, at least the image's; the guest's filesystem is grown to it at boot.
   * Default: the image's size. The file of a persistent root keeps the size that it was given; a store
   * of the caller's cannot, and must be given that size, or more, again.
   */
  readonly sizeMiB?: number | undefined;
}

/** Options of `rootfs.ephemeral`. */
export interface EphemeralOptions extends WritableOptions {
  /**
   * Most memory of the helper for what the guest changes: 16 MiB or more. Default: 64 MiB. Files can
   * grow by a little less; then the guest gets ENOSPC.
   */
  readonly maxDirtyBytes?: number | undefined;
}

/** Options of `rootfs.persistent`. */
export interface PersistentOptions extends WritableOptions {
  /**
   * Absolute path of the file that keeps what the guest changes. It is made when it is not there, its
   * directory is not. One VM uses it at a time, and only with the image that it was made for.
   */
  readonly path: string;
}

/** Options of `rootfs.cow`. */
export interface CowOptions extends WritableOptions {
  /** The store that keeps what the guest changes. */
  readonly writable: SandboxBlockStore;
  /**
   * Most memory of the helper for changes that are not in the store: 1 MiB and two blocks, or more.
   * Default: 64 MiB. The guest waits when it is used up.
   */
  readonly maxDirtyBytes?: number | undefined;
}

/** Options of `rootfs.cow` for what was composed before. */
export interface CowSourceOptions {
  /** From `rootfs.compose`: its store gets the changes. */
  readonly source: WritableRootfs;
  /** As in {@link CowOptions}. */
  readonly maxDirtyBytes?: number | undefined;
}

/** Options of `rootfs.compose`. */
export interface ComposeOptions extends WritableOptions {
  /** The store with the blocks that lie over the image. */
  readonly overlay: SandboxBlockStore;
}

/** A writable root filesystem, made by `rootfs.ephemeral`, `rootfs.cow` or `rootfs.persistent`. */
export class WritableRootfs {
  /** The image below it. */
  readonly base: RootfsImage;
  /** Size of the disk in MiB, when it is not the image's. */
  readonly sizeMiB: number | undefined;
  /** @internal */
  readonly overlay: Overlay;

  /** @internal */
  constructor(base: RootfsImage, sizeMiB: number | undefined, overlay: Overlay) {
    this.base = base;
    this.sizeMiB = sizeMiB;
    this.overlay = Object.freeze(overlay);
    Object.freeze(this);
  }
}

/** What a definition takes as `rootfs`. */
export type Rootfs = RootfsImage | WritableRootfs;

/** @internal The check of the option that takes a root filesystem. */
export const rootfsOption: Check<Rootfs> = (value, path) => {
  if (value instanceof RootfsImage || value instanceof WritableRootfs) return value;
  throw invalid(path, "what a function of `rootfs` returns", value);
};

const image: Check<RootfsImage> = (value, path) => {
  if (value instanceof RootfsImage) return value;
  throw invalid(path, "what rootfs.builtIn() or rootfs.image() returns", value);
};

const writable = { base: image, sizeMiB: optional(integer(1, SIZE_MIB_MAX)) };
const ephemeralOptions = object({
  ...writable,
  maxDirtyBytes: withDefault(integer(16 * MIB, Number.MAX_SAFE_INTEGER), 64 * MIB),
});
const cowOptions = object({
  ...writable,
  writable: blockStore,
  maxDirtyBytes: withDefault(integer(MIB, Number.MAX_SAFE_INTEGER), 64 * MIB),
});
const composeOptions = object({ ...writable, overlay: blockStore });
const composed: Check<WritableRootfs & { readonly overlay: { readonly kind: "callbacks" } }> = (
  value,
  path,
) => {
  if (value instanceof WritableRootfs && value.overlay.kind === "callbacks") {
    return value as ReturnType<typeof composed>;
  }
  throw invalid(path, "what rootfs.compose() returns", value);
};
const cowSourceOptions = object({
  source: composed,
  maxDirtyBytes: withDefault(integer(MIB, Number.MAX_SAFE_INTEGER), 64 * MIB),
});
const persistentOptions = object({ ...writable, path: absolutePath });

/** A root whose changes are kept in memory. */
export function ephemeral(given: EphemeralOptions): WritableRootfs {
  const { base, sizeMiB, maxDirtyBytes } = ephemeralOptions(given, "options");
  return new WritableRootfs(base, sizeMiB, { kind: "memory", maxDirtyBytes });
}

/** An image with what a store has over it. */
export function compose(given: ComposeOptions): WritableRootfs {
  const { base, sizeMiB, overlay } = composeOptions(given, "options");
  const maxDirtyBytes = 64 * MIB;
  return new WritableRootfs(base, sizeMiB, { kind: "callbacks", store: overlay, maxDirtyBytes });
}

/** A root whose changes are kept in a store of the caller's. */
export function cow(given: CowOptions | CowSourceOptions): WritableRootfs {
  if (typeof given === "object" && given !== null && "source" in given) {
    const { source, maxDirtyBytes } = cowSourceOptions(given, "options");
    const overlay = { ...source.overlay, maxDirtyBytes };
    return new WritableRootfs(source.base, source.sizeMiB, overlay);
  }
  const { base, sizeMiB, writable, maxDirtyBytes } = cowOptions(given, "options");
  return new WritableRootfs(base, sizeMiB, { kind: "callbacks", store: writable, maxDirtyBytes });
}

/** A root whose changes are kept in a file. */
export function persistent(given: PersistentOptions): WritableRootfs {
  const { base, sizeMiB, path } = persistentOptions(given, "options");
  return new WritableRootfs(base, sizeMiB, { kind: "file", path });
}
