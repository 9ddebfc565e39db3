// File systems to mount in a guest.
import { createMemory, type MemoryOptions } from "./memory/create.js";
import type { MemoryFileSystem } from "./memory/memory-file-system.js";
import { requireFileSystem } from "./mounts/features.js";
import type { FileSystem } from "./mounts/file-system.js";
import { BindMount, type BindOptions, VirtualMount, type VirtualOptions } from "./mounts/mount.js";
import { type FileSystemPromises, fromPromises, type PromisesOptions } from "./mounts/promises.js";

function memory(options?: MemoryOptions): MemoryFileSystem {
  return createMemory(options);
}

function virtual(fileSystem: FileSystem, options?: VirtualOptions): VirtualMount;
function virtual(fileSystem: MemoryFileSystem, options?: VirtualOptions): VirtualMount;
function virtual(
  fileSystem: FileSystem<Uint8Array> & { readonly rawPaths: true },
  options?: VirtualOptions,
): VirtualMount;
function virtual(fileSystem: unknown, options?: VirtualOptions): VirtualMount {
  return new VirtualMount(requireFileSystem(fileSystem, "fileSystem"), options);
}

function bind(options: BindOptions): BindMount {
  return new BindMount(options);
}

function promises(given: FileSystemPromises, options?: PromisesOptions): VirtualMount {
  return fromPromises(given, options);
}

/** File systems to mount in a guest: what these return goes into the `mounts` of a boot. */
export const fs = {
  /**
   * A POSIX tree in memory that this program reads and writes too. It can be used before a boot,
   * while any number of VMs have it mounted, and after they are closed.
   *
   * Throws `invalid-argument`, and `file-error` for `files` that do not fit.
   */
  memory,
  /**
   * A file system of the caller's own. Which calls it can serve is told by the methods that it has.
   * What `fs.memory` returned is taken too, to give it options.
   *
   * Throws `invalid-argument`.
   */
  virtual,
  /**
   * An object with the functions of `node:fs/promises`, such as `promises` of the package memfs.
   * What of it is there is used; without `open` the mount is read-only. It is asked with strings
   * only, so names that are not UTF-8 are refused with EILSEQ.
   *
   * This is for file systems in memory. For a directory of the host take `fs.bind`: a hostile guest
   * could win a race against the checks that are made here and leave `options.root`.
   *
   * Throws `invalid-argument`.
   */
  fromPromises: promises,
  /**
   * A directory of the host. Nothing outside of it is reached through it.
   *
   * Throws `invalid-argument`; that the directories exist is checked at the boot.
   */
  bind,
} as const;
