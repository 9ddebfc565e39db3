// A running VM, as the user holds it.
import type { ClosedReason, VmEvent } from "./events.js";
import { exec } from "./exec.js";
import type { ExecOptions, ExecResult } from "./exec-options.js";
import type { EnvironmentFact } from "./facts/fact.js";
import { guestFacts } from "./facts/guest-facts.js";
import { GuestFiles } from "./guest-files.js";
import type { Lane } from "./lane.js";
import { metricsOf, type VmMetrics } from "./metrics.js";
import type { Network } from "./network/definition.js";
import type { LaneNetwork } from "./network/lane-network.js";
import type { PublishedPort, PublishOptions } from "./network/published.js";
import { type PtyProcess, pty } from "./pty.js";
import { type SpawnedProcess, spawn } from "./spawn.js";
import type { PtyOptions, SpawnOptions } from "./spawn-options.js";
import { abortSignal, object, optional } from "./validate.js";
import { handled } from "./wait.js";

const checkFactsOptions = object({ signal: optional(abortSignal) });

/** How a guest is kept apart from the host. */
export interface Isolation {
  /** `"hardware"`: the processor's virtualization. `"emulated"`: a program that emulates a processor. */
  readonly kind: "hardware" | "emulated";
  /** What runs the VM. */
  readonly engine: "krun" | "qemu";
  /** One line for people: the engine's version and what confines it. */
  readonly detail: string;
}

/** How a VM ended. */
export interface VmEnd {
  /** Why. */
  readonly reason: ClosedReason;
  /** Exit status of the engine (of the helper, for `helper-exited`), when it exited by itself. */
  readonly exitCode?: number;
  /** Name of the signal that ended it, such as `SIGKILL`. */
  readonly signal?: string;
}

/** A running VM. Close it with {@link Vm.close}, or hold it with `await using`. */
export class Vm implements AsyncDisposable {
  /** How this guest is kept apart from the host. */
  readonly isolation: Isolation;
  /** Resolves when the VM and its helper are gone, for whatever reason. Never rejects. */
  readonly closed: Promise<VmEnd>;
  /** The files of the guest. */
  readonly fs: GuestFiles;
  readonly #lane: Lane;
  readonly #network: LaneNetwork;
  readonly #configFacts: readonly EnvironmentFact[];

  /** @internal */
  constructor(
    lane: Lane,
    isolation: Isolation,
    network: LaneNetwork,
    configFacts: readonly EnvironmentFact[],
  ) {
    this.#lane = lane;
    this.#network = network;
    this.#configFacts = configFacts;
    this.isolation = isolation;
    this.fs = new GuestFiles(lane);
    this.closed = lane.ended.then(({ reason, exitCode, signal }) => ({
      reason,
      ...(exitCode === undefined ? {} : { exitCode }),
      ...(signal === undefined ? {} : { signal }),
    }));
  }

  /**
   * Runs a command in the guest and resolves when it has exited and its output is read. A background
   * child that keeps the pipe open does not hold it back. Any number run side by side.
   *
   * A command that does not exist or cannot be executed resolves too, with `exitCode` 127 or 126 and
   * what happened in `stderr`. Rejects with a {@link SandboxError}: `invalid-argument`,
   * `process-not-started` (its directory, its user, no memory), `limit-exceeded`, `sandbox-exited`,
   * `sandbox-closed`; or with an `AbortError` when `options.signal` fires.
   *
   * @param command a name looked up in PATH, or a path with a slash in it
   * @param args arguments after the command's own name
   */
  exec(
    command: string,
    args?: readonly string[],
    options?: ExecOptions & { readonly encoding?: "utf8" | undefined },
  ): Promise<ExecResult>;
  exec(
    command: string,
    args: readonly string[] | undefined,
    options: ExecOptions & { readonly encoding: "buffer" },
  ): Promise<ExecResult<Buffer>>;
  exec(
    command: string,
    args?: readonly string[],
    options?: ExecOptions,
  ): Promise<ExecResult<string | Buffer>> {
    return handled(exec(this.#lane, command, args, options));
  }

  /**
   * Starts a process and returns at once. Any number run side by side.
   *
   * Throws a {@link SandboxError} `invalid-argument` for options that make no sense, and an
   * `AbortError` when `options.signal` has fired already; nothing is started then.
   *
   * @param command a name looked up in PATH, or a path with a slash in it
   * @param args arguments after the command's own name
   */
  spawn(command: string, args?: readonly string[], options?: SpawnOptions): SpawnedProcess {
    return spawn(this.#lane, command, args, options);
  }

  /**
   * Starts a process with a controlling terminal, and returns at once. Throws as {@link Vm.spawn}
   * does. TERM is `xterm-256color` unless the environment says otherwise.
   */
  pty(command: string, args?: readonly string[], options?: PtyOptions): PtyProcess {
    return pty(this.#lane, command, args, options);
  }

  /**
   * Puts another policy in force for new flows; those that have their decision keep it. Changes that are
   * made side by side come one after the other. Resolves when it is in force.
   *
   * Rejects with a {@link SandboxError}: `invalid-argument` (also for secrets that the VM was not booted
   * with: secrets cannot change), `invalid-state` (the VM was booted without a network and cannot get
   * one), `timeout`, `sandbox-exited`, `sandbox-closed`.
   */
  setNetwork(network: Network): Promise<void> {
    return handled(this.#network.set(network));
  }

  /**
   * Listens on the host and connects what comes to a TCP port of the guest, until `unpublish` or the end
   * of the VM. A port that nobody listens on in the guest ends the connection. Needs a network, and no
   * grant of its policy.
   *
   * Rejects with a {@link SandboxError}: `invalid-argument`, `invalid-state` (a VM without a network),
   * what the helper says with `errno` when the host's port cannot be had, `timeout`, `sandbox-exited`,
   * `sandbox-closed`.
   */
  publish(options: PublishOptions): Promise<PublishedPort> {
    return handled(this.#network.publish(options));
  }

  /** Stops listening; connections that are open go on. Rejects as {@link Vm.publish} does. */
  unpublish(published: PublishedPort): Promise<void> {
    return handled(this.#network.unpublish(published));
  }

  /** The ports that are published, those of `boot` first. */
  get published(): readonly PublishedPort[] {
    return this.#network.published;
  }

  /**
   * What happens to the VM, until it has ended. A reader begins with the last events that were, 64
   * at most; one that is too slow loses the oldest, and gets an `events-dropped` with their number.
   */
  events(): AsyncIterableIterator<VmEvent> {
    return this.#lane.events.read();
  }

  /**
   * What the VM has used so far. Rejects with `sandbox-exited` or `sandbox-closed`.
   */
  metrics(): Promise<VmMetrics> {
    return handled(this.#lane.metrics().then(metricsOf));
  }

  /**
   * What there is in the environment: the facts of the definition, and those that are observed in
   * the guest now. What cannot be found out is left out. Rejects with `sandbox-exited`,
   * `sandbox-closed`, or with an `AbortError` when `options.signal` fires.
   */
  environmentFacts(options?: {
    readonly signal?: AbortSignal | undefined;
  }): Promise<EnvironmentFact[]> {
    const look = async () => {
      const { signal } = checkFactsOptions(options, "options");
      return [...this.#configFacts, ...(await guestFacts(this.fs, signal))];
    };
    return handled(look());
  }

  /**
   * Ends the guest's processes, flushes and unmounts its filesystems, and stops the VM. Resolves
   * when all of it is gone: within 5 s, after which it is killed. Never rejects; can be called any
   * number of times, and every call waits for the end. Calls that are under way reject with
   * `sandbox-closed`.
   */
  close(): Promise<void> {
    return this.#lane.close();
  }

  /** The same as {@link Vm.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
