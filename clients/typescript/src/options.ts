// The options of defineSandbox and boot, and their checks.
import type { ConsoleCallback } from "./console.js";
import type { Confinement } from "./grants.js";
import { bootMounts } from "./mounts/boot-mounts.js";
import type { Mount } from "./mounts/mount.js";
import { type Network, type NetworkDefinition, networkOption } from "./network/definition.js";
import { type PublishOptions, publishList } from "./network/published.js";
import {
  abortSignal,
  absolutePath,
  callback,
  environment,
  hostname,
  integer,
  object,
  oneOf,
  optional,
  withDefault,
} from "./validate.js";
import { type Rootfs, rootfsOption } from "./writable-rootfs.js";

/** How the guest must be kept apart from the host, at least. */
export type IsolationMinimum = "hardware" | "emulated";

/** What defines a sandbox. */
export interface SandboxOptions {
  /** The root filesystem, from a function of `rootfs`. */
  readonly rootfs: Rootfs;
  /** Size of the machine. */
  readonly resources?:
    | {
        /** Virtual processors, 1 to 64. Default: 1. */
        readonly cpus?: number | undefined;
        /** Memory in MiB, 128 to 1048576. Default: 512. */
        readonly memoryMiB?: number | undefined;
      }
    | undefined;
  /** How the guest is kept apart from the host. Never downgraded silently. */
  readonly isolation?:
    | {
        /**
         * `"hardware"` (KVM or Hypervisor.framework) or `"emulated"` (also accepts software
         * emulation, which is slower and no security boundary by QEMU's own account).
         * Default: the environment variable `LANEBOX_MIN_ISOLATION`, else `"hardware"`.
         */
        readonly minimum?: IsolationMinimum | undefined;
        /** The engine. Default: `"auto"`, the best that meets the minimum. */
        readonly engine?: "auto" | "krun" | "qemu" | undefined;
        /**
         * `"on"`: the helper gives up what the host lets it give up (namespaces, capabilities, files,
         * system calls) before it touches anything of the guest; `vm.isolation.detail` says what is in
         * force. `"off"`: whoever takes the helper over can do what this program's user can; said in
         * `vm.isolation.detail` and by a `warning` event. No environment variable changes it.
         * Default: `"on"`.
         */
        readonly confinement?: Confinement | undefined;
        /**
         * Absolute path of a control group (cgroup v2) without processes or children, which this
         * program has made, with limits of its choice, and removes after the VM has closed. The helper
         * and its engine join it before they do anything. Default: they stay in this program's group.
         */
        readonly cgroup?: string | undefined;
      }
    | undefined;
  /**
   * The guest's network: what a function of `network` returned, or an array of it. What it does not
   * allow is denied. Default: the guest has no network device.
   */
  readonly network?: Network | undefined;
}

/** What one boot is given. */
export interface BootOptions {
  /**
   * What is mounted where: paths in the guest, absolute, in normal form and not `/`, and what
   * `fs.memory`, `fs.virtual`, `fs.fromPromises` or `fs.bind` returned; 16 at most. Parents are
   * mounted before what is in them, whatever their order here. A directory to mount on must be
   * there, or in a place where it can be made: on a tmpfs such as /tmp, in another mount, on a
   * writable root.
   */
  readonly mounts?: Readonly<Record<string, Mount>> | undefined;
  /** Working directory of processes that name none: absolute, in normal form; must exist in the guest. Default: `/`. */
  readonly cwd?: string | undefined;
  /** Name of the guest: RFC 1123 labels, 64 characters at most. Default: `sandbox`. */
  readonly hostname?: string | undefined;
  /** Variables of every process, over the guest's own PATH and HOME. Those that are `undefined` are left out. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Ports of the guest to publish on the host, 64 at most; as `vm.publish`. Needs a network. */
  readonly publish?: readonly PublishOptions[] | undefined;
  /** Aborting makes the boot reject with an `AbortError` and leaves nothing running. No effect after the boot. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Gets what the guest's kernel and init print, as text. It comes from the guest: it may hold
   * anything. An error that this throws becomes a `warning` event.
   */
  readonly console?: ConsoleCallback | undefined;
  /**
   * Debugging aid: absolute path of a socket (mode 0600) that the helper opens with gRPC reflection.
   * Whoever can open it can look into the VM and run commands in it.
   */
  readonly debugSocket?: string | undefined;
}

/** Checked definition. */
export interface Definition {
  readonly rootfs: Rootfs;
  readonly resources: { readonly cpus: number; readonly memoryMiB: number };
  readonly isolation: {
    readonly minimum: IsolationMinimum;
    readonly engine: "auto" | "krun" | "qemu";
    readonly confinement: Confinement;
    readonly cgroup: string | undefined;
  };
  readonly network: NetworkDefinition | undefined;
}

const isolationMinimum = oneOf("hardware", "emulated");

/** The minimum that holds when none is given. Throws when `LANEBOX_MIN_ISOLATION` is garbage. */
export function defaultMinimum(): IsolationMinimum {
  const given = process.env["LANEBOX_MIN_ISOLATION"];
  return given === undefined || given === ""
    ? "hardware"
    : isolationMinimum(given, "LANEBOX_MIN_ISOLATION");
}

const sandboxOptions = object({
  rootfs: rootfsOption,
  resources: object({
    cpus: withDefault(integer(1, 64), 1),
    memoryMiB: withDefault(integer(128, 1_048_576), 512),
  }),
  isolation: object({
    minimum: optional(isolationMinimum),
    engine: withDefault(oneOf("auto", "krun", "qemu"), "auto"),
    confinement: withDefault(oneOf("on", "off"), "on"),
    cgroup: optional(absolutePath),
  }),
  network: optional(networkOption),
});

/** The check of the options of `boot`. */
export const checkBootOptions = object({
  mounts: bootMounts,
  cwd: withDefault(absolutePath, "/"),
  hostname: withDefault(hostname, "sandbox"),
  env: withDefault(environment, {}),
  publish: publishList,
  signal: optional(abortSignal),
  console: optional(callback<ConsoleCallback>()),
  debugSocket: optional(absolutePath),
});

/** Checks the options of `defineSandbox`. */
export function checkDefinition(given: unknown): Definition {
  const { rootfs, resources, isolation, network } = sandboxOptions(given, "options");
  const minimum = isolation.minimum ?? defaultMinimum();
  return { rootfs, resources, isolation: { ...isolation, minimum }, network };
}
