// What a boot's `mounts` take, and the options of each kind. Checked when it is made; that a
// directory is there is checked at the boot.
import { statSync } from "node:fs";
import type { FilesystemFeature } from "../gen/lanebox/v1/mount_pb.js";
import { MemoryFileSystem } from "../memory/memory-file-system.js";
import {
  absolutePath,
  boolean,
  type Check,
  integer,
  invalid,
  invalidUnseen,
  list,
  object,
  oneOf,
  optional,
  text,
  withDefault,
} from "../validate.js";
import { errnoOf } from "./errno.js";
import { featuresOf } from "./features.js";
import type { AnyFileSystem } from "./served.js";

/** Options of `fs.virtual`. */
export interface VirtualOptions {
  /** The guest may not change it, whatever methods there are. Default: false. */
  readonly readOnly?: boolean | undefined;
  /**
   * Milliseconds, 0 to 60000, that the guest may believe names and attributes without asking again.
   * Default: 0, so that what this program changes is seen at once.
   */
  readonly cacheMs?: number | undefined;
  /** Milliseconds, 1 to 600000, that each call may take before the guest gets EIO. Default: 30000. */
  readonly deadlineMs?: number | undefined;
  /** Set-user-id and set-group-id bits have no effect in the guest. Default: true. */
  readonly nosuid?: boolean | undefined;
}

/** Options of `fs.bind`. */
export interface BindOptions {
  /** Absolute path of a directory on the host, in normal form. */
  readonly source: string;
  /** What the guest may do: read, or read and write. Enforced on the host. Default: `"ro"`. */
  readonly access?: "ro" | "rw" | undefined;
  /** Paths that the guest does not get. */
  readonly mask?:
    | {
        /** Relative to the source, in normal form, such as `"node_modules"`. */
        readonly paths: readonly string[];
        /**
         * Absolute path of a directory on the host in which the masked paths are found instead. Only
         * with `access: "rw"`. Without it they are absent.
         */
        readonly storage?: string | undefined;
      }
    | undefined;
  /** Set-user-id and set-group-id bits have no effect in the guest. Default: true. */
  readonly nosuid?: boolean | undefined;
  /** Device nodes never work in a mount: anything but true is refused. */
  readonly nodev?: true | undefined;
  /** Nobody but one guest changes the source while it is mounted: the guest may cache as for a disk. Default: false. */
  readonly exclusive?: boolean | undefined;
}

const checkVirtual = object({
  readOnly: withDefault(boolean, false),
  cacheMs: withDefault(integer(0, 60_000), 0),
  deadlineMs: withDefault(integer(1, 600_000), 30_000),
  nosuid: withDefault(boolean, true),
});

/** A file system that the caller's own code serves, made by `fs.virtual`. */
export class VirtualMount {
  /** @internal */
  readonly readOnly: boolean;
  /** @internal */
  readonly cacheMs: number;
  /** @internal */
  readonly deadlineMs: number;
  /** @internal */
  readonly nosuid: boolean;
  readonly #fileSystem: AnyFileSystem;

  /** @internal */
  constructor(fileSystem: AnyFileSystem, options: unknown) {
    const { readOnly, cacheMs, deadlineMs, nosuid } = checkVirtual(options, "options");
    this.#fileSystem = fileSystem;
    this.readOnly = readOnly;
    this.cacheMs = cacheMs;
    this.deadlineMs = deadlineMs;
    this.nosuid = nosuid;
    Object.freeze(this);
  }

  /** @internal What serves one VM. */
  open(): { fileSystem: AnyFileSystem; features: FilesystemFeature[] } {
    const given = this.#fileSystem;
    const fileSystem = given instanceof MemoryFileSystem ? given.open() : given;
    return { fileSystem, features: featuresOf(fileSystem, this.readOnly) };
  }
}

const maskedPath: Check<string> = (value, path) => {
  const checked = text(value, path);
  const parts = checked.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    throw invalid(path, "a path relative to the source, in normal form", value);
  }
  return checked;
};

const nodev: Check<boolean> = (value, path) => {
  if (value === undefined || value === true) return true;
  if (value !== false) throw invalid(path, "true", value);
  const problem = "expected true, got false: device nodes never work in a mount";
  throw invalidUnseen(path, problem);
};

const checkBind = object({
  source: absolutePath,
  access: withDefault(oneOf("ro", "rw"), "ro"),
  mask: optional(object({ paths: list(maskedPath), storage: optional(absolutePath) })),
  nosuid: withDefault(boolean, true),
  nodev,
  exclusive: withDefault(boolean, false),
});

/** A directory of the host, made by `fs.bind`. */
export class BindMount {
  /** @internal */
  readonly source: string;
  /** @internal */
  readonly readOnly: boolean;
  /** @internal */
  readonly maskPaths: readonly string[];
  /** @internal */
  readonly maskStorage: string | undefined;
  /** @internal */
  readonly nosuid: boolean;
  /** @internal */
  readonly exclusive: boolean;

  /** @internal */
  constructor(options: unknown) {
    const { source, access, mask, nosuid, exclusive } = checkBind(options, "options");
    if (access === "ro" && mask?.storage !== undefined) {
      throw invalidUnseen("options.mask.storage", 'it has a use with access "rw" only');
    }
    this.source = source;
    this.readOnly = access === "ro";
    this.maskPaths = mask?.paths ?? [];
    this.maskStorage = mask?.storage;
    this.nosuid = nosuid;
    this.exclusive = exclusive;
    Object.freeze(this);
  }

  /** @internal Throws `invalid-argument` when a directory is not there. */
  requireDirectories(path: string): void {
    requireDirectory(this.source, `${path}.source`);
    if (this.maskStorage !== undefined) {
      requireDirectory(this.maskStorage, `${path}.mask.storage`);
    }
  }
}

/** What `mounts` take: what `fs.memory`, `fs.virtual`, `fs.fromPromises` and `fs.bind` return. */
export type Mount = MemoryFileSystem | VirtualMount | BindMount;

/** Throws `invalid-argument` when there is no such directory on the host. */
export function requireDirectory(directory: string, path: string): string {
  let problem = "is not a directory";
  try {
    if (statSync(directory).isDirectory()) return directory;
  } catch (error) {
    problem = `cannot be used (${errnoOf(error) ?? String(error)})`;
  }
  throw invalidUnseen(path, `'${directory}' ${problem}`);
}
