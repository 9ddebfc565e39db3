// What stat(2) tells of a file of the guest.
import { kebab } from "./error-mapping.js";
import { SandboxError } from "./errors.js";
import { FileType, type FileStat as WireStat } from "./gen/lanebox/v1/filesystem_pb.js";

/** The type of a file of the guest. */
export type GuestFileType =
  | "file"
  | "directory"
  | "symlink"
  | "fifo"
  | "socket"
  | "character-device"
  | "block-device";

/** What is known of a file of the guest. */
export interface GuestFileStat {
  readonly type: GuestFileType;
  /** Bytes; 0 for many files of /proc and /sys that have content. */
  readonly sizeBytes: number;
  /** Permission bits with set-id and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Names of the file. */
  readonly nlink: number;
  /** Number of the file in its filesystem. */
  readonly ino: bigint;
  /** Last change of the content: milliseconds since 1970, with fractions; negative before. */
  readonly modifiedAtMs: number;
  /** Last access. */
  readonly accessedAtMs: number;
  /** Last change of the attributes. */
  readonly changedAtMs: number;
}

/** A stat as it came; what is absent is 0. */
export function fileStat(stat: WireStat | undefined): GuestFileStat {
  const type = stat && kebab(FileType, stat.type);
  if (type === undefined || type === "unspecified") {
    throw new SandboxError("internal", "The helper sent no stat");
  }
  const ms = (time: WireStat["modified"]) =>
    time === undefined ? 0 : Number(time.seconds) * 1000 + time.nanos / 1e6;
  return {
    type: type as GuestFileType,
    sizeBytes: Number(stat?.size ?? 0n),
    mode: stat?.mode ?? 0,
    uid: stat?.uid ?? 0,
    gid: stat?.gid ?? 0,
    nlink: stat?.nlink ?? 0,
    ino: stat?.ino ?? 0n,
    modifiedAtMs: ms(stat?.modified),
    accessedAtMs: ms(stat?.accessed),
    changedAtMs: ms(stat?.changed),
  };
}
