// One lane: a helper, the connection to it, its Watch stream, and how all of that ends.
//
//   start ──► boot ──► running ──► ended
//     │         │         ├─ close(): Shutdown, then as below
//     │         │         └─ Exited, or the connection or the helper is gone
//     └─────────┴────────────► the connection is closed, the helper waited for, killed if it stays
//
// `ended` resolves once, when the helper process is gone. Nothing here rejects but the calls
// themselves, and each of those ends by then at the latest.
import { onAbort } from "./abort.js";
import { type ArtifactFile, verifyExecutable } from "./artifact-digest.js";
import { Connection } from "./connection.js";
import { type ConsoleCallback, GuestConsole } from "./console.js";
import { errorDetail, fromDetail, fromStatus, withShownConsole } from "./error-mapping.js";
import { AbortError, SandboxError } from "./errors.js";
import { EventHub } from "./events.js";
import type {
  BootRequest,
  BootResponse,
  GetMetricsResponse,
  ProbeResponse,
} from "./gen/lanebox/v1/sandbox_pb.js";
import { type Confinement, type Grants, helperArguments } from "./grants.js";
import { Helper } from "./helper.js";
import { MountServer, type ServedMount } from "./mounts/mount-server.js";
import { NetworkServer, type ServedPolicy } from "./network/network-server.js";
import { type ServedStore, StoreServer } from "./stores/store-server.js";
import { deferred, within } from "./wait.js";
import { type LaneEnd, Watch } from "./watch.js";

/** What waits are bounded by, in milliseconds. Tests use shorter ones. */
export const limits = {
  /** The whole boot. The helper's own limit is 60 s; this is for a helper that hangs. */
  bootMs: 75_000,
  /** What the helper gets to take the mounts in, before the boot, and a policy at any time. */
  attachMs: 10_000,
  /** A call about the network. */
  networkMs: 20_000,
  /** The probe. */
  probeMs: 20_000,
  /** What a guest gets to stop in; then the helper kills it. */
  shutdownMs: 4_000,
  /** The whole `close`; then the helper is killed. */
  closeMs: 5_000,
  /** What open calls get to end in once the VM has ended. */
  finishMs: 250,
  /** What a helper gets to exit in once its connection is closed. */
  exitMs: 2_000,
};

/** How a lane's helper is started. */
export interface LaneOptions {
  /** The program sandbox-host. */
  readonly helper: ArtifactFile;
  /** What it may use. */
  readonly grants: Grants;
  /** Whether it confines itself. Default: `"on"`. */
  readonly confinement?: Confinement | undefined;
  /** Absolute path of a control group that it joins. */
  readonly cgroup?: string | undefined;
  /** Absolute path of a debug socket that the helper shall open. */
  readonly debugSocket?: string | undefined;
  /** Gets the text of the guest's console. */
  readonly console?: ConsoleCallback | undefined;
}

/** What is served to a VM from here, from its boot on. */
export interface Served {
  readonly mounts?: readonly Omit<ServedMount, "warn">[];
  readonly store?: ServedStore | undefined;
  readonly policy?: ServedPolicy | undefined;
}

/** A helper and its VM. */
export class Lane {
  readonly events = new EventHub();
  /** Resolves when everything of this lane is gone; never rejects. */
  readonly ended: Promise<LaneEnd>;
  readonly #helper: Helper;
  readonly #connection: Connection;
  readonly #console: GuestConsole;
  readonly #watch: Watch;
  readonly #ending = deferred<void>();
  readonly #closed = new AbortController();
  #closing: Promise<void> | undefined;
  #end: LaneEnd | undefined;
  readonly #served = new Set<MountServer | StoreServer | NetworkServer>();
  #booted = false;

  private constructor(helper: Helper, console: ConsoleCallback | undefined) {
    this.#helper = helper;
    this.#connection = new Connection(helper.socket);
    this.#console = new GuestConsole(console, this.events);
    this.#watch = new Watch(this.#connection, this.#console, this.events);
    const signs = [this.#watch.done, this.#connection.lost, helper.exited, this.#ending.promise];
    this.ended = Promise.race(signs).then(() => this.#finish());
  }

  /** Starts a helper. The caller must see to it that `boot`, `abandon` or `close` ends it. */
  static async start(options: LaneOptions): Promise<Lane> {
    const { helper: program, grants, confinement = "on", cgroup, debugSocket } = options;
    await verifyExecutable(program);
    const args = helperArguments(grants, confinement, cgroup, debugSocket);
    const helper = await Helper.start(program.path, args);
    return new Lane(helper, options.console);
  }

  /** What the helper finds of the engines. */
  async probe(): Promise<ProbeResponse> {
    return this.#call(() => this.#connection.sandbox.probe({}, { timeoutMs: limits.probeMs }));
  }

  /**
   * Brings the VM up, with what is served from here. When that fails or is aborted, the helper is
   * gone before this rejects.
   */
  async boot(
    request: BootRequest,
    signal: AbortSignal | undefined,
    served: Served = {},
  ): Promise<BootResponse> {
    const call = new AbortController();
    const deaf = onAbort(signal, () => call.abort());
    const options = { timeoutMs: limits.bootMs, signal: call.signal };
    try {
      await this.#serve(served, call.signal);
      const response = await this.#connection.sandbox.boot(request, options);
      signal?.throwIfAborted();
      this.#booted = true;
      return response;
    } catch (cause) {
      const error = signal?.aborted ? new AbortError(signal) : await this.#explain(cause);
      await this.abandon();
      throw error;
    } finally {
      deaf();
    }
  }

  /**
   * Makes a call about a disk, whose store may be served from here. Leaving the loop ends the call.
   * The caller abandons the lane afterwards.
   */
  async *images<T>(
    signal: AbortSignal | undefined,
    store: ServedStore | undefined,
    open: (images: Connection["image"], options: { signal: AbortSignal }) => AsyncIterable<T>,
  ): AsyncGenerator<T, void> {
    const call = new AbortController();
    const deaf = onAbort(signal, () => call.abort());
    try {
      await this.#serve({ store }, call.signal);
      yield* open(this.#connection.image, { signal: call.signal });
    } catch (cause) {
      throw signal?.aborted ? new AbortError(signal) : await this.#explain(cause);
    } finally {
      deaf();
    }
  }

  /**
   * Makes a call to the processes of the guest; what it throws is an error for the user, or, once
   * the caller has aborted `signal`, whatever comes, at once.
   */
  async *stream<T>(
    open: (processes: Connection["process"], signal: AbortSignal) => AsyncIterable<T>,
    signal: AbortSignal,
  ): AsyncGenerator<T, void> {
    this.#refuseWhenOver();
    try {
      yield* open(this.#connection.process, signal);
    } catch (error) {
      throw signal.aborted ? error : await this.#explain(error);
    }
  }

  /** Sends a signal, such as "SIGTERM", to a process group of the guest. */
  async signalProcess(pid: number, signal: string): Promise<void> {
    await this.process((processes) => processes.signal({ pid, signal }));
  }

  /** What the VM has used so far. */
  metrics(): Promise<GetMetricsResponse> {
    return this.#call(() => this.#connection.sandbox.getMetrics({}));
  }

  /** Makes a call about a process of the guest that has one answer. */
  process<T>(make: (processes: Connection["process"]) => Promise<T>): Promise<T> {
    return this.#call(() => make(this.#connection.process));
  }

  /** Makes a call about the network that has one answer; rejects with an AbortError when `signal` fires. */
  async network<T>(
    make: (
      network: Connection["network"],
      options: { signal: AbortSignal; timeoutMs: number },
    ) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const call = this.#begin(signal);
    const options = { signal: call.signal, timeoutMs: limits.networkMs };
    try {
      return await this.#call(() => make(this.#connection.network, options));
    } catch (error) {
      if (signal?.aborted) throw new AbortError(signal);
      throw this.closed.aborted ? closedError() : error;
    } finally {
      call.end();
    }
  }

  /** Serves another policy, until it, or the VM, has ended. Resolves when the helper has taken it. */
  async servePolicy(policy: ServedPolicy): Promise<NetworkServer> {
    return this.#call(async () => {
      const server = this.#networkServer(policy);
      await this.#attach([server]);
      return server;
    });
  }

  /** Makes a call about files that has one answer; rejects with an AbortError when `signal` fires. */
  async files<T>(
    signal: AbortSignal | undefined,
    make: (files: Connection["files"], options: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const call = this.#begin(signal);
    try {
      return await make(this.#connection.files, { signal: call.signal });
    } catch (error) {
      throw await this.#fileError(error, signal);
    } finally {
      call.end();
    }
  }

  /** The same for a call with many answers. Leaving the loop ends the call. */
  async *fileStream<T>(
    signal: AbortSignal | undefined,
    open: (files: Connection["files"], options: { signal: AbortSignal }) => AsyncIterable<T>,
  ): AsyncGenerator<T, void> {
    const call = this.#begin(signal);
    try {
      yield* open(this.#connection.files, { signal: call.signal });
    } catch (error) {
      throw await this.#fileError(error, signal);
    } finally {
      call.end();
    }
  }

  /** A call that ends when `signal` fires or the lane is closed. `end` it in any case. */
  #begin(signal: AbortSignal | undefined): { readonly signal: AbortSignal; end(): void } {
    if (signal?.aborted) throw new AbortError(signal);
    this.#refuseWhenOver();
    const call = new AbortController();
    const deaf = onAbort(signal, () => call.abort());
    const unclosed = onAbort(this.closed, () => call.abort());
    const end = () => {
      deaf();
      unclosed();
      call.abort();
    };
    return { signal: call.signal, end };
  }

  async #fileError(error: unknown, signal: AbortSignal | undefined): Promise<Error> {
    if (signal?.aborted) return new AbortError(signal);
    if (this.closed.aborted) return closedError();
    return this.#explain(error);
  }

  /** Shuts the guest down and returns when the helper is gone: within 5 s, killing it if need be. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    this.#closed.abort();
    return this.#closing;
  }

  /** Fires when `close` is called. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Ends everything without asking the guest. Never rejects. */
  async abandon(): Promise<void> {
    this.#closing ??= this.ended.then(() => undefined);
    this.#connection.destroy();
    this.#ending.resolve();
    await this.ended;
  }

  /** Kills the helper, and with it the VM, now. */
  kill(): void {
    this.#helper.kill();
  }

  /** Opens the streams of callbacks and waits until the helper has taken all of them. */
  async #serve({ mounts = [], store, policy }: Served, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const warn = (message: string) => this.events.warn(message);
    const { filesystem, blockStore } = this.#connection;
    const servers: (MountServer | StoreServer | NetworkServer)[] = [
      ...mounts.map((mount) => new MountServer(filesystem, { ...mount, warn })),
      ...(store === undefined ? [] : [new StoreServer(blockStore, store)]),
      ...(policy === undefined ? [] : [this.#networkServer(policy)]),
    ];
    const deaf = onAbort(signal, () => this.#endServing());
    try {
      await this.#attach(servers);
    } finally {
      deaf();
    }
  }

  /** Waits until the helper has taken what is served. */
  async #attach(servers: readonly (MountServer | StoreServer | NetworkServer)[]): Promise<void> {
    for (const server of servers) {
      this.#served.add(server);
      void server.done.then(() => this.#served.delete(server));
    }
    const attached = Promise.all(servers.map((server) => server.attached));
    if (servers.length > 0 && !(await within(attached, limits.attachMs))) {
      for (const server of servers) server.end();
      throw new SandboxError("timeout", "The helper did not take what is served to the VM in time");
    }
    await attached;
  }

  #networkServer(policy: ServedPolicy): NetworkServer {
    // Once the connection is gone, the end of the VM says all there is to say.
    const warn = (message: string) => {
      if (!this.#connection.isLost) this.events.warn(message);
    };
    return new NetworkServer(this.#connection.network, policy, warn);
  }

  #endServing(): void {
    for (const server of this.#served) server.end();
  }

  async #call<T>(make: () => Promise<T>): Promise<T> {
    this.#refuseWhenOver();
    try {
      return await make();
    } catch (error) {
      throw await this.#explain(error);
    }
  }

  #refuseWhenOver(): void {
    if (this.#closing !== undefined) throw closedError();
    if (this.#end !== undefined) throw this.#exitedError(this.#end);
  }

  /** The error for the user. A connection that breaks is explained by how the helper ended. */
  async #explain(error: unknown): Promise<SandboxError> {
    if (error instanceof SandboxError) return error;
    const detail = errorDetail(error);
    const known = detail && fromDetail(detail, this.#console.tail);
    if (known !== undefined && known.code !== "sandbox-exited") return known;
    const over =
      known !== undefined ||
      this.#connection.isLost ||
      (await within(this.#ending.promise, limits.finishMs));
    if (this.#closing !== undefined && over) return closedError();
    if (known !== undefined) return known;
    return over ? this.#exitedError(await this.ended) : fromStatus(error, this.#step);
  }

  /** The boot step that is under way; undefined once the VM runs. */
  get #step(): string | undefined {
    return this.#booted ? undefined : this.#watch.step;
  }

  #exitedError(end: LaneEnd): SandboxError {
    const { consoleTail } = end;
    const step = this.#step;
    const when = step ? ` during the boot step ${step}` : "";
    const message = `The sandbox has ended${when} (${end.reason}): ${end.message}`;
    const details = { step, consoleTail };
    return new SandboxError("sandbox-exited", withShownConsole(message, consoleTail), details);
  }

  async #close(): Promise<void> {
    const deadline = performance.now() + limits.closeMs;
    const left = () => deadline - performance.now();
    await within(Promise.race([this.#shutdown(), this.ended]), limits.shutdownMs + limits.finishMs);
    this.#ending.resolve();
    if (await within(this.ended, left())) return;
    this.#helper.kill();
    await this.ended; // bounded: see #finish
  }

  async #shutdown(): Promise<void> {
    const deadlineMs = limits.shutdownMs;
    const { exited } = await this.#connection.sandbox.shutdown({ deadlineMs });
    if (exited !== undefined) this.#watch.noteExited(exited);
  }

  /** Runs once, when any part of the lane has ended: takes down the rest. */
  async #finish(): Promise<LaneEnd> {
    this.#ending.resolve();
    this.#endServing();
    this.#connection.finish();
    await within(Promise.all([this.#connection.lost, this.#watch.done]), limits.finishMs);
    this.#connection.destroy();
    await this.#helper.stop(limits.exitMs);
    await within(this.#watch.done, limits.finishMs);
    const end = this.#watch.exited ?? (await this.#helperEnd());
    this.#end = end;
    const { consoleTail: _, ...event } = end;
    this.events.emit({ type: "exited", at: Date.now(), ...event });
    this.events.end();
    return end;
  }

  /** How the lane ended when the helper did not say. */
  async #helperEnd(): Promise<LaneEnd> {
    const asked = this.#closing !== undefined;
    const exit = (await within(this.#helper.exited, 0)) ? await this.#helper.exited : undefined;
    const consoleTail = this.#console.tail;
    const how = exit?.signal
      ? `was ended by ${exit.signal}`
      : `exited with status ${exit?.exitCode ?? "unknown"}`;
    const words = this.#helper.lastWords();
    const broken =
      this.#watch.failure === undefined ? "" : ` (its event stream: ${this.#watch.failure})`;
    const message = `The helper sandbox-host ${how}${broken}${words === "" ? "" : `; it said:\n${words}`}`;
    return {
      reason: !asked ? "helper-exited" : exit?.exitCode === 0 ? "closed" : "killed",
      message,
      ...(exit?.exitCode == null ? {} : { exitCode: exit.exitCode }),
      ...(exit?.signal == null ? {} : { signal: exit.signal }),
      consoleTail,
    };
  }
}

/** What a call rejects with once the lane is being closed. */
export function closedError(): SandboxError {
  return new SandboxError("sandbox-closed", "The sandbox has been closed");
}
