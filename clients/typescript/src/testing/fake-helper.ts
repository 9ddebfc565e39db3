// A stand-in for sandbox-host in tests without a VM: it speaks lanebox.v1 on fd 3 and behaves, or
// misbehaves, as its scenario says. Run by the file that `harness.ts` writes.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http2";
import { Socket } from "node:net";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorCode, ErrorDetailSchema } from "../gen/lanebox/v1/error_pb.js";
import { FilesystemService } from "../gen/lanebox/v1/filesystem_pb.js";
import { ImageService } from "../gen/lanebox/v1/image_pb.js";
import { MountEventSchema, MountProblem } from "../gen/lanebox/v1/mount_pb.js";
import { type NetworkEvent, NetworkService } from "../gen/lanebox/v1/network_pb.js";
import { ProcessService } from "../gen/lanebox/v1/process_pb.js";
import {
  EngineKind,
  type Exited,
  ExitedSchema,
  ExitReason,
  FindingCode,
  IsolationKind,
  SandboxService,
  State,
  type WatchResponse,
  WatchResponseSchema,
} from "../gen/lanebox/v1/sandbox_pb.js";
import { fakeCommands } from "./fake-commands.js";
import { fakeImages } from "./fake-images.js";
import { fakeMounts } from "./fake-mounts.js";
import { fakeNetwork } from "./fake-network.js";

/** How the stand-in behaves. */
export interface Scenario {
  /** File that gets a line for what happens. */
  readonly log: string;
  readonly start?: "die" | "hang";
  readonly boot?: "ok" | "fail" | "hang" | "die" | "refuse" | "garbage";
  /** What happens when a mount is attached. */
  readonly mounts?: "ok" | "hang" | "refuse";
  /** What happens when a policy is attached or set, or a port published. */
  readonly network?: "ok" | "hang" | "refuse" | "break";
  /** What happens when a disk is opened without a VM. */
  readonly images?: "ok" | "hang" | "refuse";
  readonly shutdown?: "ok" | "hang" | "die";
  /** Stays when fd 3 ends, as a helper that hangs would. */
  readonly immortal?: boolean;
}

/** What the stand-in's parts share. */
export interface Fake {
  readonly scenario: Scenario;
  note(text: string): void;
  end(reason: ExitReason, message: string): Exited;
}

/** Serves fd 3 until it ends. */
export function serve(scenario: Scenario): void {
  const note = (text: string) => appendFileSync(scenario.log, `${text}\n`);
  note(`pid ${process.pid}`);
  note(`env ${Object.keys(process.env).sort().join(",")}`);
  note(`args ${process.argv.slice(2).join(" ")}`);
  if (scenario.start === "die") {
    console.error(JSON.stringify({ level: "ERROR", fields: { message: "No fd for me" } }));
    process.exit(3);
  }
  if (scenario.start === "hang") {
    setInterval(() => undefined, 1000);
    return;
  }
  const watch = new WatchFeed();
  const fake: Fake = {
    scenario,
    note,
    end: (reason, message) => watch.end(reason, message),
  };
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => {
        sandboxRoutes(router, fake, watch);
        router.service(ProcessService, fakeCommands(fake));
        router.service(ImageService, fakeImages(fake));
        router.service(FilesystemService, fakeMounts(fake));
        router.service(NetworkService, fakeNetwork(fake));
      },
    }),
  );
  const socket = new Socket({ fd: 3, readable: true, writable: true });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    if (scenario.immortal) setInterval(() => undefined, 1000);
    else process.exit(0);
  });
  server.emit("connection", socket);
}

/** The events of the one watcher. */
class WatchFeed {
  #waiting: WatchResponse[] = [];
  #wake: () => void = () => undefined;

  send(event: WatchResponse["event"]): void {
    const timeUnixNanos = BigInt(Date.now()) * 1_000_000n;
    this.#waiting.push(create(WatchResponseSchema, { timeUnixNanos, event }));
    this.#wake();
  }

  state(state: State): void {
    this.send({ case: "stateChanged", value: { $typeName: "lanebox.v1.StateChanged", state } });
  }

  mountError(target: string): void {
    const problem = MountProblem.WRONG_ANSWER;
    const value = { target, problem, path: "/hello", message: "It said no" };
    this.send({ case: "mount", value: create(MountEventSchema, value) });
  }

  networkEvent(event: NetworkEvent["event"]): void {
    this.send({ case: "network", value: { $typeName: "lanebox.v1.NetworkEvent", event } });
  }

  console(text: string): void {
    const data = Buffer.from(text);
    this.send({
      case: "console",
      value: { $typeName: "lanebox.v1.ConsoleOutput", data, skippedBytes: 0n },
    });
  }

  end(reason: ExitReason, message: string): Exited {
    const exited = create(ExitedSchema, {
      reason,
      message,
      engineSignal: "",
      consoleTail: "last line\n",
    });
    this.send({ case: "exited", value: exited });
    return exited;
  }

  async *read(): AsyncGenerator<WatchResponse> {
    for (;;) {
      const event = this.#waiting.shift();
      if (event === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      yield event;
      if (event.event.case === "exited") return;
    }
  }
}

/** What the probe tells. */
const PROBED = {
  hostVersion: "0.0.0-fake",
  confinement: "helper confined by nothing real",
  confinementMissing: ["A wall is missing (fake)"],
  engines: [
    {
      engine: EngineKind.KRUN,
      isolation: IsolationKind.HARDWARE,
      code: FindingCode.NO_DEVICE,
      detail: "There is no /dev/kvm",
      remedy: "Load the kvm module",
    },
    {
      engine: EngineKind.QEMU,
      isolation: IsolationKind.EMULATED,
      code: FindingCode.OK,
      detail: "QEMU 7.2",
    },
  ],
};

function sandboxRoutes(router: ConnectRouter, fake: Fake, watch: WatchFeed): void {
  const { scenario, note } = fake;
  router.service(SandboxService, {
    probe: () => PROBED,
    watch: () => watch.read(),
    boot: async (request, context: HandlerContext) => {
      note(
        `boot ${request.hostname} ${request.cpus} ${request.memoryMib} ${JSON.stringify(request.env)}`,
      );
      for (const mount of request.mounts) {
        note(`mount ${mount.target} ${mount.source.case} ${mount.readOnly ? "ro" : "rw"}`);
        watch.mountError(mount.target);
      }
      if (request.network !== undefined) {
        const { policy, secrets } = request.network;
        const names = secrets.map(({ name }) => name).join(",");
        note(`network ${policy?.callbacks?.id ?? "none"} rules ${policy?.rules.length} ${names}`);
        const value = { $typeName: "lanebox.v1.CallbackFailed" as const, message: "It threw" };
        watch.networkEvent({ case: "callbackFailed", value });
      }
      watch.state(State.BOOTING);
      watch.send({
        case: "bootStep",
        value: { $typeName: "lanebox.v1.BootStep", name: "start-engine" },
      });
      watch.console("Linux version 6.1\n");
      watch.send({
        case: "bootStep",
        value: { $typeName: "lanebox.v1.BootStep", name: "mount-root" },
      });
      switch (scenario.boot) {
        case "hang":
          context.signal.addEventListener("abort", () => note("boot cancelled"));
          return new Promise(() => undefined);
        case "die":
          await later(20);
          process.kill(process.pid, "SIGKILL");
          return new Promise(() => undefined);
        case "fail":
          throw failure(ErrorCode.BOOT_FAILED, {
            message: "The root filesystem cannot be mounted",
            errno: "EINVAL",
            step: "mount-root",
            consoleTail: "EXT4-fs: bad superblock\n",
          });
        case "refuse":
          throw failure(ErrorCode.ISOLATION_UNAVAILABLE, {
            message: "There is no /dev/kvm",
            remedy: "Load the kvm module",
          });
        case "garbage":
          throw new ConnectError("no detail here", Code.Internal);
        default:
      }
      watch.send({
        case: "warning",
        value: { $typeName: "lanebox.v1.Warning", message: "The clock is slow" },
      });
      watch.state(State.RUNNING);
      return {
        engine: EngineKind.QEMU,
        isolation: IsolationKind.EMULATED,
        detail: "QEMU 7.2 (fake)",
        kernelRelease: "6.1",
      };
    },
    getStatus: () => ({ state: State.RUNNING }),
    getMetrics: () => ({
      uptimeNanos: 1_500_000n,
      host: { cpuNanos: 2_000_000n, residentBytes: 3n },
      disk: { inBytes: 4n, outBytes: 5n },
      network: { inBytes: 6n, outBytes: 7n },
    }),
    shutdown: async (request) => {
      note(`shutdown ${request.deadlineMs}`);
      watch.state(State.CLOSING);
      if (scenario.shutdown === "hang") return new Promise(() => undefined);
      if (scenario.shutdown === "die") process.exit(9);
      return { exited: watch.end(ExitReason.CLOSED, "The guest stopped") };
    },
  });
}

/** An error with its detail, as sandbox-host makes it. */
export function failure(
  code: ErrorCode,
  detail: { message: string; remedy?: string; errno?: string; step?: string; consoleTail?: string },
): ConnectError {
  const outgoing = [{ desc: ErrorDetailSchema, value: { code, ...detail } }];
  return new ConnectError(detail.message, Code.FailedPrecondition, undefined, outgoing);
}

/** A pause. */
export function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
