// What the helper's errors become: `ErrorDetail` in a gRPC status to SandboxError, and a gRPC status
// without one to the nearest code. Enum names on the wire are shown in lower case with dashes.
import { Code, ConnectError } from "@connectrpc/connect";
import { SandboxError, type SandboxErrorCode } from "./errors.js";
import { ErrorCode, type ErrorDetail, ErrorDetailSchema } from "./gen/lanebox/v1/error_pb.js";

/** Lines of the console that an error's message shows; `consoleTail` has more. */
const CONSOLE_LINES_SHOWN = 12;

/** The name of a wire enum's value without its prefix, in lower case with dashes. */
export function kebab(names: Record<number, string>, value: number): string | undefined {
  return names[value]?.toLowerCase().replaceAll("_", "-");
}

/** The code that an error of the helper has for the user; one that this version does not know is a defect. */
export function errorCode(code: ErrorCode): SandboxErrorCode {
  if (code === ErrorCode.UNSPECIFIED) return "internal";
  return (kebab(ErrorCode, code) as SandboxErrorCode | undefined) ?? "internal";
}

/** The `ErrorDetail` that an error carries, if it does. */
export function errorDetail(error: unknown): ErrorDetail | undefined {
  return error instanceof ConnectError ? error.findDetails(ErrorDetailSchema)[0] : undefined;
}

/**
 * The error for the user; `consoleTail` stands in when the helper sent none. The message names step
 * and errno. The gRPC error says nothing more, so it does not become the cause.
 */
export function fromDetail(detail: ErrorDetail, consoleTail: string): SandboxError {
  const code = errorCode(detail.code);
  const withConsole =
    code === "boot-failed" || code === "sandbox-exited" || detail.consoleTail !== "";
  const tail = withConsole ? detail.consoleTail || consoleTail : "";
  const { remedy, errno, step } = detail;
  const unsaid = [step, errno].filter((part) => part !== "" && !detail.message.includes(part));
  const place = step === "" || unsaid.length === 0 ? "" : ` (${unsaid.join(", ")})`;
  const message = withShownConsole(`${detail.message}${place}`, tail);
  return new SandboxError(code, message, { remedy, errno, step, consoleTail: tail });
}

/** The error for a call that failed with a bare gRPC status while the connection was sound. */
export function fromStatus(error: unknown, step: string | undefined): SandboxError {
  const { code, rawMessage } = ConnectError.from(error);
  const where = step ? ` in the boot step ${step}` : "";
  const message =
    code === Code.DeadlineExceeded
      ? `The helper did not answer in time${where}`
      : `The call to the helper failed${where}: ${rawMessage}`;
  return new SandboxError(statusCode(code), message, { step, cause: error });
}

function statusCode(code: Code): SandboxErrorCode {
  switch (code) {
    case Code.DeadlineExceeded:
      return "timeout";
    case Code.ResourceExhausted:
      return "limit-exceeded";
    case Code.Unimplemented:
      return "not-supported";
    case Code.InvalidArgument:
      return "invalid-argument";
    default:
      return "internal";
  }
}

/** A message followed by the console's last lines, when there are any. */
export function withShownConsole(message: string, consoleTail: string): string {
  const lines = consoleTail.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) return message;
  const shown = lines.slice(-CONSOLE_LINES_SHOWN).map((line) => `  ${printable(line.trimEnd())}`);
  return `${message}\nThe last lines of the console:\n${shown.join("\n")}`;
}

/** Guest text made harmless for a terminal: control characters are left out. */
function printable(line: string): string {
  return line.replace(/[\p{Cc}\u2028\u2029]/gu, (char) => (char === "\t" ? " " : ""));
}
