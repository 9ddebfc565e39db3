// The helper's Watch stream, from before the boot to the end of the VM: console, events, boot step,
// and the last event, which says how the VM ended.
import { ConnectError } from "@connectrpc/connect";
import type { Connection } from "./connection.js";
import type { GuestConsole } from "./console.js";
import { kebab } from "./error-mapping.js";
import type { ClosedReason, EventHub, MountProblem, StoreOperation, VmState } from "./events.js";
import { type MountEvent, MountProblem as WireProblem } from "./gen/lanebox/v1/mount_pb.js";
import {
  type Exited,
  ExitReason,
  State,
  type StoreEvent,
  type WatchResponse,
  StoreOperation as WireOperation,
} from "./gen/lanebox/v1/sandbox_pb.js";
import { networkEvent } from "./network/audit.js";

/** How a lane ended. */
export interface LaneEnd {
  readonly reason: ClosedReason;
  /** One sentence or a few, for people. */
  readonly message: string;
  readonly exitCode?: number;
  readonly signal?: string;
  /** The console's last lines, 16 KiB at most. */
  readonly consoleTail: string;
}

/** One Watch call. */
export class Watch {
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  /** The boot step that began last; empty before the first. */
  step = "";
  /** What broke the stream while the connection was sound. */
  failure: string | undefined;
  #exited: LaneEnd | undefined;
  readonly #console: GuestConsole;
  readonly #events: EventHub;

  constructor(connection: Connection, console: GuestConsole, events: EventHub) {
    this.#console = console;
    this.#events = events;
    this.done = this.#follow(connection).catch((error) => {
      if (!connection.isLost) this.failure = ConnectError.from(error).message;
    });
  }

  /** How the helper said that the VM ended, when it did. */
  get exited(): LaneEnd | undefined {
    return this.#exited;
  }

  /** Notes the end that another call told of. */
  noteExited(exited: Exited): void {
    this.#exited ??= laneEnd(exited);
  }

  async #follow(connection: Connection): Promise<void> {
    for await (const response of connection.sandbox.watch({})) {
      this.#take(response);
      if (this.#exited !== undefined) return;
    }
  }

  #take({ event, timeUnixNanos }: WatchResponse): void {
    const at = Number(timeUnixNanos / 1_000_000n);
    switch (event.case) {
      case "stateChanged": {
        const state = vmState(event.value.state);
        if (state !== undefined) this.#events.emit({ type: "lifecycle", state, at });
        break;
      }
      case "bootStep":
        this.step = event.value.name;
        this.#events.emit({ type: "boot-step", step: event.value.name, at });
        break;
      case "console":
        this.#console.write(event.value.data, event.value.skippedBytes);
        break;
      case "warning":
        this.#events.emit({ type: "warning", message: event.value.message, at });
        break;
      case "mount":
        this.#events.emit({ type: "mount-error", at, ...mountError(event.value) });
        break;
      case "store":
        this.#events.emit({ type: "store-error", at, ...storeError(event.value) });
        break;
      case "network": {
        const known = networkEvent(event.value);
        if (known !== undefined) this.#events.emit({ at, ...known });
        break;
      }
      case "exited":
        this.noteExited(event.value);
        break;
    }
  }
}

function vmState(state: State): VmState | undefined {
  switch (state) {
    case State.BOOTING:
      return "booting";
    case State.RUNNING:
      return "running";
    case State.CLOSING:
      return "closing";
    case State.EXITED:
      return "exited";
    default:
      return undefined; // idle is before the boot, and what a newer helper knows is not shown
  }
}

function mountError({ target, problem, path, message }: MountEvent) {
  const isKnown = problem !== WireProblem.UNSPECIFIED && WireProblem[problem] !== undefined;
  return {
    target,
    problem: (isKnown ? kebab(WireProblem, problem) : "unknown") as MountProblem,
    ...(path === "" ? {} : { path }),
    message,
  };
}

function storeError({ operation, recovered, message }: StoreEvent) {
  const isKnown = operation !== WireOperation.UNSPECIFIED && WireOperation[operation] !== undefined;
  return {
    operation: (isKnown ? kebab(WireOperation, operation) : "unknown") as StoreOperation,
    recovered,
    message,
  };
}

function laneEnd(exited: Exited): LaneEnd {
  const { engineExitCode, engineSignal, message, consoleTail } = exited;
  const reason =
    exited.reason === ExitReason.UNSPECIFIED ? undefined : kebab(ExitReason, exited.reason);
  return {
    reason: (reason as ClosedReason | undefined) ?? "engine-failed",
    message,
    ...(engineExitCode === undefined ? {} : { exitCode: engineExitCode }),
    ...(engineSignal === "" ? {} : { signal: engineSignal }),
    consoleTail,
  };
}
