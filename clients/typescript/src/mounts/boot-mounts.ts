// The mounts of a boot: their check, and what of them goes into the request and into streams.
import { create } from "@bufbuild/protobuf";
import { MountSchema, type Mount as WireMount } from "../gen/lanebox/v1/mount_pb.js";
import { MemoryFileSystem } from "../memory/memory-file-system.js";
import { absolutePath, type Check, invalid, invalidUnseen } from "../validate.js";
import { BindMount, type Mount, VirtualMount } from "./mount.js";
import type { ServedMount } from "./mount-server.js";

/** Mounts of a VM, at most. */
export const MOUNTS_MAX = 16;

/** Where each mount goes. */
export type BootMounts = readonly (readonly [target: string, mount: Mount])[];

/** The check of a path to mount on. */
export const mountTarget: Check<string> = (value, path) => {
  const checked = absolutePath(value, path);
  if (checked === "/") {
    throw invalidUnseen(path, "'/' is the root filesystem's; mount below it");
  }
  const [, top] = checked.split("/");
  if (["proc", "sys", "dev"].includes(top ?? "")) {
    throw invalidUnseen(path, `nothing can be mounted in /${top}, which is the guest kernel's`);
  }
  return checked;
};

/** The check of the option `mounts`. */
export const bootMounts: Check<BootMounts> = (value, path) => {
  if (value === undefined) return [];
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(path, "an object of guest paths and mounts", value);
  }
  const entries = Object.entries(value);
  if (entries.length > MOUNTS_MAX) {
    throw invalidUnseen(path, `${entries.length} mounts, where ${MOUNTS_MAX} are the most`);
  }
  return entries.map(([target, mount]) => {
    const where = `${path}[${JSON.stringify(target)}]`;
    return [mountTarget(target, where), checkMount(mount, where)] as const;
  });
};

function checkMount(mount: unknown, path: string): Mount {
  if (mount instanceof BindMount) {
    mount.requireDirectories(path);
    return mount;
  }
  if (mount instanceof VirtualMount || mount instanceof MemoryFileSystem) return mount;
  throw invalid(path, "what a function of `fs` returns", mount);
}

/** What a boot needs of one mount. */
export interface PlannedMount {
  readonly request: WireMount;
  /** What is served to the VM; undefined for a directory of the host. */
  readonly served: Omit<ServedMount, "warn"> | undefined;
  /** What the helper must be allowed to use. */
  readonly grants: readonly string[];
}

/** Plans the mounts of one VM. */
export function planMounts(mounts: BootMounts): PlannedMount[] {
  return mounts.map(([target, mount], index) => {
    if (mount instanceof BindMount) {
      const request = bindRequest(target, mount);
      return { request, served: undefined, grants: bindGrants(mount) };
    }
    const virtual = mount instanceof VirtualMount ? mount : new VirtualMount(mount, {});
    const { fileSystem, features } = virtual.open();
    const { readOnly, cacheMs, deadlineMs, nosuid } = virtual;
    const id = `mount-${index}`;
    const source = { case: "callbacks", value: { id, features, deadlineMs, cacheMs } } as const;
    const request = create(MountSchema, { target, readOnly, setId: !nosuid, source });
    return { request, served: { id, fileSystem, features }, grants: [] };
  });
}

function bindGrants({ source, readOnly, maskStorage }: BindMount): string[] {
  const storage = maskStorage === undefined ? [] : [`write:${maskStorage}`];
  return [`${readOnly ? "read" : "write"}:${source}`, ...storage];
}

function bindRequest(target: string, mount: BindMount): WireMount {
  const { source, readOnly, nosuid, exclusive, maskPaths, maskStorage = "" } = mount;
  const value = { source, maskPaths: [...maskPaths], maskStorage, exclusive };
  return create(MountSchema, {
    target,
    readOnly,
    setId: !nosuid,
    source: { case: "bind", value },
  });
}
