// The one error class of the library, its codes, and the error of an aborted call.
// How errors of the helper become these is in error-mapping.ts.

/**
 * What kind of failure a {@link SandboxError} is.
 *
 * | code | meaning |
 * |---|---|
 * | `invalid-argument` | an option is unknown, has a wrong type or is ill-formed; nothing was started |
 * | `invalid-state` | the call makes no sense at this point: a second decision, a decision that comes too late, a network call to a VM without a network |
 * | `not-supported` | the feature is part of the API and not of this version |
 * | `isolation-unavailable` | the isolation that was asked for cannot be had on this machine |
 * | `artifact-missing` | a kernel, image or helper file is not installed |
 * | `artifact-invalid` | such a file is there and is not what it should be: another size, another digest, a wrong descriptor, not executable |
 * | `artifact-unsafe` | such a file, or its folder, can be changed by others than root and this user |
 * | `platform-unsupported` | there is no helper for this operating system, processor or C library, or a file is for another one |
 * | `signing-failed` | macOS: the helper could not be signed |
 * | `boot-failed` | the machine did not come up; `step` says where it stopped |
 * | `sandbox-exited` | the machine, its engine or the helper is gone |
 * | `sandbox-closed` | `close()` was called |
 * | `command-not-found` | the command of a process does not exist in the guest |
 * | `command-not-executable` | the command exists and cannot be executed |
 * | `process-not-started` | a process could not be started for another reason: its directory, its user, no memory |
 * | `not-found` | what the call names does not exist (any more) |
 * | `file-error` | a file operation failed; `errno` says how |
 * | `timeout` | a deadline passed |
 * | `limit-exceeded` | a documented limit was reached |
 * | `guest-protocol` | the guest broke the protocol; what it sent was refused |
 * | `disk-in-use` | another VM uses the file of a persistent root |
 * | `disk-invalid` | the store of a writable root belongs to another image, is damaged, or is none |
 * | `internal` | a defect of Lanebox |
 * | `file-error` | an operation on a file of the guest failed; `errno` says how |
 */
export type SandboxErrorCode =
  | "invalid-argument"
  | "invalid-state"
  | "not-supported"
  | "isolation-unavailable"
  | "artifact-missing"
  | "artifact-invalid"
  | "artifact-unsafe"
  | "platform-unsupported"
  | "signing-failed"
  | "boot-failed"
  | "sandbox-exited"
  | "sandbox-closed"
  | "command-not-found"
  | "command-not-executable"
  | "process-not-started"
  | "not-found"
  | "file-error"
  | "timeout"
  | "limit-exceeded"
  | "guest-protocol"
  | "internal"
  | "file-error"
  | "disk-in-use"
  | "disk-invalid";

/** What a {@link SandboxError} carries beside its code and message. */
export interface SandboxErrorDetails {
  /** What the user can do about it. */
  readonly remedy?: string | undefined;
  /** Linux error name such as `ENOENT`. */
  readonly errno?: string | undefined;
  /** The boot step that failed, such as `mount-root`. */
  readonly step?: string | undefined;
  /** The last lines of the guest's console, at most 16 KiB. */
  readonly consoleTail?: string | undefined;
  /** The error underneath. */
  readonly cause?: unknown;
}

/** The one error class of the library. Programs act on `code` and `errno`; the message is for people. */
export class SandboxError extends Error {
  /** What kind of failure it is. */
  readonly code: SandboxErrorCode;
  /** What the user can do about it, when there is something to say. */
  declare readonly remedy?: string;
  /** Linux error name such as `ENOENT`, when a system call failed. */
  declare readonly errno?: string;
  /** The boot step that failed, such as `mount-root`; for boot failures. */
  declare readonly step?: string;
  /** The last lines of the guest's console, at most 16 KiB; for boot failures and the end of the machine. */
  declare readonly consoleTail?: string;

  constructor(code: SandboxErrorCode, message: string, details: SandboxErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "SandboxError";
    this.code = code;
    for (const key of ["remedy", "errno", "step", "consoleTail"] as const) {
      const value = details[key];
      if (value !== undefined && value !== "") {
        Object.defineProperty(this, key, { value, enumerable: true });
      }
    }
  }
}

/**
 * What a call rejects with when its `AbortSignal` fires: the shape of Node's own, so `error.name ===
 * "AbortError"` and `error.code === "ABORT_ERR"` hold; `cause` is the signal's reason.
 */
export class AbortError extends Error {
  readonly code = "ABORT_ERR";

  constructor(signal: AbortSignal) {
    super("The operation was aborted", { cause: signal.reason });
    this.name = "AbortError";
  }
}
