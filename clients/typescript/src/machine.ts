// What decides which helper package fits a machine.
import { familySync, MUSL } from "detect-libc";
import type { Architecture } from "./artifact-descriptor.js";

/** A machine that programs run on. */
export interface Machine {
  /** As `process.platform` says it. */
  readonly platform: string;
  /** As `process.arch` says it. */
  readonly arch: string;
  /** The C library, on Linux. */
  readonly libc: "gnu" | "musl" | undefined;
}

let found: Machine | undefined;

/** This machine. */
export function thisMachine(): Machine {
  if (found === undefined) {
    const { platform, arch } = process;
    const libc = platform !== "linux" ? undefined : familySync() === MUSL ? "musl" : "gnu";
    found = { platform, arch, libc };
  }
  return found;
}

/** What the processor is called in descriptors; undefined for one that Lanebox does not know. */
export function machineArchitecture(machine: Machine = thisMachine()): Architecture | undefined {
  switch (machine.arch) {
    case "x64":
      return "x86_64";
    case "arm64":
      return "aarch64";
    default:
      return undefined;
  }
}

/** The short name of the helper package for a machine, such as `linux-x64-gnu`; it need not exist. */
export function helperPackageName(machine: Machine = thisMachine()): string {
  const { platform, arch, libc } = machine;
  return [platform, arch, ...(libc === undefined ? [] : [libc])].join("-");
}

/** The helper packages that there are. */
const HELPER_PACKAGES = ["linux-x64-gnu", "darwin-arm64"];

/** Why there can be no helper for a machine; undefined for one that there is a package for. */
export function unsupported(machine: Machine): string | undefined {
  const name = helperPackageName(machine);
  if (HELPER_PACKAGES.includes(name)) return undefined;
  const libc =
    machine.libc === "musl"
      ? ", and its C library is musl, where glibc 2.36 or newer is needed"
      : "";
  return `There is no helper for this machine, which is ${name}${libc}; there are ${HELPER_PACKAGES.join(" and ")}`;
}
