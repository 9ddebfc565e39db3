// What a VM has used so far.
import type { GetMetricsResponse } from "./gen/lanebox/v1/sandbox_pb.js";

/** What a VM has used so far. Bytes and times only grow, but for those of memory. */
export interface VmMetrics {
  /** Milliseconds since the engine was started. */
  readonly uptimeMs: number;
  /** What the VM costs the host: the engine and its helper. */
  readonly host: {
    /** Milliseconds of processor time. */
    readonly cpuTimeMs: number;
    /** Bytes of memory that are resident, what the guest has touched of its memory included. */
    readonly memoryBytes: number;
  };
  /**
   * What the guest says of the processes that were started in it; absent when it does not answer within
   * a second. A guest can lie about itself.
   */
  readonly guest?: {
    /** Milliseconds of the guest's processor time, of processes that have ended too. */
    readonly cpuTimeMs: number;
    /** Bytes of memory that they hold, with what the kernel caches for them. */
    readonly memoryBytes: number;
    /** Bytes of memory that new processes could have. */
    readonly availableBytes: number;
  };
  /** Bytes that the guest has read from and written to its root disk. */
  readonly disk: { readonly readBytes: number; readonly writtenBytes: number };
  /** Bytes of frames that the guest has received and sent; absent without a network. */
  readonly network?: { readonly receivedBytes: number; readonly sentBytes: number };
}

/** The host's answer, for the user. */
export function metricsOf(answer: GetMetricsResponse): VmMetrics {
  const { uptimeNanos, host, guest, disk, network } = answer;
  return {
    uptimeMs: milliseconds(uptimeNanos),
    host: {
      cpuTimeMs: milliseconds(host?.cpuNanos ?? 0n),
      memoryBytes: Number(host?.residentBytes ?? 0n),
    },
    ...(guest === undefined
      ? {}
      : {
          guest: {
            cpuTimeMs: milliseconds(guest.cpuNanos),
            memoryBytes: Number(guest.memoryBytes),
            availableBytes: Number(guest.availableBytes),
          },
        }),
    disk: { readBytes: Number(disk?.inBytes ?? 0n), writtenBytes: Number(disk?.outBytes ?? 0n) },
    ...(network === undefined
      ? {}
      : {
          network: {
            receivedBytes: Number(network.inBytes),
            sentBytes: Number(network.outBytes),
          },
        }),
  };
}

function milliseconds(nanos: bigint): number {
  return Number(nanos) / 1e6;
}
