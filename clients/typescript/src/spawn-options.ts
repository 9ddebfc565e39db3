// The options of spawn and pty.
import { processFields } from "./exec-options.js";
import {
  boolean,
  type Check,
  integer,
  invalid,
  object,
  optional,
  withDefault,
} from "./validate.js";

/** A limit of a resource: a number for both limits, or each by itself. `"unlimited"`: none. */
export type ResourceLimit =
  | number
  | "unlimited"
  | {
      /** What is in force. */
      readonly soft: number | "unlimited";
      /** What the process may raise it to. Default: the same. */
      readonly hard?: number | "unlimited" | undefined;
    };

/** Names of resource limits: those of setrlimit(2) in lower case without `RLIMIT_`. */
export type ResourceName = (typeof resourceNames)[number];

const resourceNames = [
  "as",
  "core",
  "cpu",
  "data",
  "fsize",
  "locks",
  "memlock",
  "msgqueue",
  "nice",
  "nofile",
  "nproc",
  "rss",
  "rtprio",
  "rttime",
  "sigpending",
  "stack",
] as const;

/** Options of `spawn`. */
export interface SpawnOptions {
  /** Working directory in the guest: absolute, in normal form. Default: the lane's `cwd`. */
  readonly cwd?: string | undefined;
  /** Variables over the lane's environment. Those that are `undefined` are left out. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** `"name"`, `"uid"`, `"name:group"` or `"uid:gid"` in the guest. Default: root. */
  readonly user?: string | undefined;
  /**
   * Milliseconds, 1 to 2147483647, after which the process group gets SIGTERM and a second later
   * SIGKILL. Default: no limit.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Aborting ends the process group (SIGTERM, a second later SIGKILL) and fails the streams with an
   * `AbortError`; `exit` tells how the process ended. Aborted before the call, it starts nothing.
   */
  readonly signal?: AbortSignal | undefined;
  /** Resource limits of the process, in the units of setrlimit(2). Default: the guest's own. */
  readonly limits?: Readonly<Partial<Record<ResourceName, ResourceLimit>>> | undefined;
  /** Set-user-id programs and file capabilities give the process nothing (PR_SET_NO_NEW_PRIVS). Default: false. */
  readonly noNewPrivileges?: boolean | undefined;
}

/** Size of a terminal in characters, 1 to 65535 each. */
export interface TerminalSize {
  readonly rows: number;
  readonly cols: number;
}

/** Options of `pty`. */
export interface PtyOptions extends SpawnOptions {
  /** The terminal's size. Default: 24 rows of 80 characters. */
  readonly size?: TerminalSize | undefined;
}

/** A limit as it travels; undefined is none. */
export interface CheckedLimit {
  readonly name: string;
  readonly soft: bigint | undefined;
  readonly hard: bigint | undefined;
}

const amount: Check<bigint | undefined> = (value, path) => {
  if (value === "unlimited") return undefined;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw invalid(path, 'a whole number that is not negative, or "unlimited"', value);
  }
  return BigInt(value);
};

const pair = object({ soft: amount, hard: optional(amount) });

/** The check of `limits`. */
const limits: Check<CheckedLimit[]> = (value, path) => {
  const fields = Object.fromEntries(resourceNames.map((name) => [name, optional(limit)]));
  return Object.entries(object(fields)(value, path)).flatMap(([name, given]) =>
    given === undefined ? [] : [{ name, ...given }],
  );
};

function limit(value: unknown, path: string): Omit<CheckedLimit, "name"> {
  if (typeof value !== "object" || value === null) {
    const both = amount(value, path);
    return { soft: both, hard: both };
  }
  const checked = pair(value, path);
  const { soft } = checked;
  const hard = (value as { hard?: unknown }).hard === undefined ? soft : checked.hard;
  if (hard !== undefined && (soft === undefined || soft > hard)) {
    throw invalid(path, "a soft limit that is not above the hard one", value);
  }
  return { soft, hard };
}

const { stdin: _, ...fields } = processFields;
const spawnFields = {
  ...fields,
  limits: withDefault(limits, []),
  noNewPrivileges: withDefault(boolean, false),
};

/** The check of the options of `spawn`. */
export const checkSpawnOptions = object(spawnFields);

/** The check of a terminal's size. */
export const terminalSize = object({ rows: integer(1, 65535), cols: integer(1, 65535) });

/** The check of the options of `pty`. */
export const checkPtyOptions = object({
  ...spawnFields,
  size: withDefault(terminalSize, { rows: 24, cols: 80 }),
});
