/**
 * Booting lanes for tests. `LANEBOX_TEST_ENGINE` chooses the engine the whole suite runs on
 * (qemu, unless it says otherwise); emulation is opted into here, explicitly.
 */

import { type BootOptions, defineSandbox, rootfs, type SandboxOptions, type Vm } from "lanebox";

export const BUSYBOX = "busybox:1.35";
export const DEBIAN = "debian:12";
export const AGENT = "debian:12-agent";

/** The engine under test. */
export function engineUnderTest(): "qemu" | "krun" {
  const name = process.env.LANEBOX_TEST_ENGINE ?? "qemu";
  if (name !== "qemu" && name !== "krun") {
    throw new Error(`LANEBOX_TEST_ENGINE must be qemu or krun, not ${name}`);
  }
  return name;
}

/** Isolation options of the engine under test. */
export function isolation(): NonNullable<SandboxOptions["isolation"]> {
  const engine = engineUnderTest();
  return { minimum: engine === "krun" ? "hardware" : "emulated", engine };
}

/** A definition with the busybox image, 1 CPU and 256 MiB. */
export function sandbox(overrides: Partial<SandboxOptions> = {}) {
  return defineSandbox({
    rootfs: rootfs.builtIn(BUSYBOX),
    resources: { cpus: 1, memoryMiB: 256 },
    isolation: isolation(),
    ...overrides,
  });
}

/** A booted busybox lane. */
export function boot(
  options: BootOptions = {},
  overrides: Partial<SandboxOptions> = {},
): Promise<Vm> {
  return sandbox(overrides).boot(options);
}

/** Runs a shell line, asserts that it succeeded and returns what it printed, without the last newline. */
export async function shell(vm: Vm, line: string): Promise<string> {
  const result = await vm.exec("sh", ["-c", line]);
  if (result.exitCode !== 0) {
    throw new Error(`"${line}" ended with ${result.exitCode}: ${result.stdout}${result.stderr}`);
  }
  return result.stdout.replace(/\n$/, "");
}

/** A boot option that keeps what the console says. */
export function heard(): BootOptions & { readonly text: () => string } {
  const pieces: string[] = [];
  return Object.defineProperty({ console: (text: string) => void pieces.push(text) }, "text", {
    value: () => pieces.join(""),
    enumerable: false,
  }) as BootOptions & { readonly text: () => string };
}
