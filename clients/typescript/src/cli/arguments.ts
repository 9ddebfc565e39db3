// Arguments of the command line, checked once into a command. What is wrong is a UsageError, one
// line that names it.
import { resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { imageName } from "../artifact-descriptor.js";
import { SandboxError } from "../errors.js";
import { clusterSize } from "../flatten.js";
import { MOUNTS_MAX, mountTarget } from "../mounts/boot-mounts.js";
import { requireDirectory } from "../mounts/mount.js";
import { address } from "../network/address.js";
import { hostPattern } from "../network/host-pattern.js";
import { port } from "../network/ports.js";
import type { CheckedPublish } from "../network/published.js";
import type { IsolationMinimum } from "../options.js";
import { type Check, environment, integer, oneOf } from "../validate.js";

/** The image that `run` takes when none is named. */
export const DEFAULT_IMAGE = "debian:12";

/** The command line makes no sense: exit status 2. */
export class UsageError extends Error {}

/** `--mount`: a directory of the host, absolute, and where it goes. */
export interface MountArgument {
  readonly source: string;
  readonly target: string;
  readonly access: "ro" | "rw";
}

/** `lanebox run`. What is undefined has the library's default. */
export interface RunCommand {
  readonly name: "run";
  readonly image: string;
  /** The file that keeps what the guest changes of its root; without it the root is read-only. */
  readonly persistent: string | undefined;
  readonly cpus: number | undefined;
  readonly memoryMiB: number | undefined;
  readonly env: Record<string, string>;
  readonly timeoutMs: number | undefined;
  readonly isolation: IsolationMinimum | undefined;
  readonly mounts: readonly MountArgument[];
  /** Ports to publish. */
  readonly publish: readonly CheckedPublish[];
  /** Hosts that the guest may look up and speak HTTP to. */
  readonly allowHosts: readonly string[];
  readonly command: string;
  readonly args: readonly string[];
}

/** `lanebox shell`. What is undefined has the library's default. */
export interface ShellCommand extends Omit<RunCommand, "name" | "timeoutMs" | "command" | "args"> {
  readonly name: "shell";
  /** The command and its arguments; empty for a login shell. */
  readonly command: readonly string[];
}

/** `lanebox cp`. */
export interface CopyCommand {
  readonly name: "cp";
  readonly image: string;
  /** As in {@link RunCommand}. */
  readonly persistent: string | undefined;
  readonly isolation: IsolationMinimum | undefined;
  readonly direction: "in" | "out";
  /** Path in the guest. */
  readonly guestPath: string;
  /** Path here. */
  readonly hostPath: string;
}

/** The disk that `lanebox image` is about. */
export interface DiskArgument {
  /** Name and version of an image that is installed, or the absolute path of a file. */
  readonly image: { readonly name: string } | { readonly path: string };
  /** How the file is laid out. */
  readonly format: "qcow2" | "raw" | undefined;
  /** The file that keeps what lies over the image. */
  readonly persistent: string | undefined;
}

/** `lanebox image info`. */
export interface ImageInfoCommand {
  readonly name: "image-info";
  readonly disk: DiskArgument;
  readonly json: boolean;
}

/** `lanebox image flatten`. What is undefined has the library's default. */
export interface FlattenCommand {
  readonly name: "image-flatten";
  readonly disk: DiskArgument;
  readonly dest: string;
  readonly clusterSize: number | undefined;
  readonly compress: boolean;
}

/** `lanebox image pull`. */
export interface PullCommand {
  readonly name: "image-pull";
  readonly reference: string;
  /** The name that the image is found by; undefined for the reference's own. */
  readonly imageName: string | undefined;
  readonly insecureRegistries: readonly string[];
  /** Options of the builder and their values. */
  readonly limits: readonly (readonly [string, string])[];
  readonly json: boolean;
}

/** What the command line asks for. */
export type Command =
  | RunCommand
  | ShellCommand
  | CopyCommand
  | {
      readonly name: "doctor";
      readonly json: boolean;
      readonly isolation: IsolationMinimum | undefined;
    }
  | {
      readonly name: "verify";
      readonly json: boolean;
      /** The manifest; that of this package unless it is given. */
      readonly manifest: string | undefined;
    }
  | { readonly name: "setup-macos" }
  | { readonly name: "images"; readonly json: boolean }
  | ImageInfoCommand
  | FlattenCommand
  | PullCommand
  | { readonly name: "help" | "version" };

const common = {
  help: { type: "boolean", short: "h" },
} as const;
const machineOptions = {
  ...common,
  image: { type: "string" },
  persistent: { type: "string" },
  cpus: { type: "string" },
  memory: { type: "string" },
  env: { type: "string", multiple: true, short: "e" },
  mount: { type: "string", multiple: true },
  publish: { type: "string", multiple: true, short: "p" },
  "allow-host": { type: "string", multiple: true },
  isolation: { type: "string" },
} as const;
const runOptions = { ...machineOptions, timeout: { type: "string" } } as const;
const isolation = oneOf("hardware", "emulated");

/** Understands the arguments after the program's own name. */
export function parseCommand(argv: readonly string[]): Command {
  const [first, ...rest] = argv;
  switch (first) {
    case "run":
      return parseRun(rest);
    case "shell":
      return parseShell(rest);
    case "cp":
      return parseCopy(rest);
    case "doctor": {
      const options = {
        ...common,
        json: { type: "boolean" },
        isolation: { type: "string" },
        verify: { type: "boolean" },
        manifest: { type: "string" },
      } as const;
      const { values } = parse(rest, options);
      if (values.help) return { name: "help" };
      const json = values.json ?? false;
      const minimum = checked("--isolation", values.isolation, isolation);
      const manifest = filePath("--manifest", values.manifest);
      if (values.verify) {
        if (minimum !== undefined) throw new UsageError("--isolation: --verify boots nothing");
        return { name: "verify", json, manifest };
      }
      if (manifest !== undefined) throw new UsageError("--manifest: it is for --verify only");
      return { name: "doctor", json, isolation: minimum };
    }
    case "setup-macos": {
      const { values } = parse(rest, common);
      return values.help ? { name: "help" } : { name: "setup-macos" };
    }
    case "images": {
      const { values } = parse(rest, { ...common, json: { type: "boolean" } } as const);
      return values.help ? { name: "help" } : { name: "images", json: values.json ?? false };
    }
    case "image":
      return parseImage(rest);
    case "--version":
    case "-V":
      return { name: "version" };
    case "help":
    case "--help":
    case "-h":
      return { name: "help" };
    case undefined:
      throw new UsageError(
        "a command is missing: run, shell, cp, doctor, images, image or setup-macos",
      );
    default:
      throw new UsageError(`unknown ${first.startsWith("-") ? "option" : "command"} '${first}'`);
  }
}

function parseRun(argv: readonly string[]): Command {
  const split = argv.indexOf("--");
  const { values } = parse(split < 0 ? argv : argv.slice(0, split), runOptions);
  if (values.help) return { name: "help" };
  const [command, ...args] = split < 0 ? [] : argv.slice(split + 1);
  if (command === undefined || command === "") {
    throw new UsageError("a command is missing: lanebox run [OPTION…] -- COMMAND [ARGUMENT…]");
  }
  return { name: "run", ...machine(values), timeoutMs: timeout(values.timeout), command, args };
}

function parseShell(argv: readonly string[]): Command {
  const split = argv.indexOf("--");
  const { values } = parse(split < 0 ? argv : argv.slice(0, split), machineOptions);
  if (values.help) return { name: "help" };
  const command = split < 0 ? [] : argv.slice(split + 1);
  if (split >= 0 && !command[0]) throw new UsageError("a command is missing after '--'");
  return { name: "shell", ...machine(values), command };
}

const GUEST = "guest:";

function parseCopy(argv: readonly string[]): Command {
  const { image: ofImage, persistent: ofDisk, isolation: ofKind } = machineOptions;
  const options = { ...common, image: ofImage, persistent: ofDisk, isolation: ofKind } as const;
  const { values, positionals } = parse(argv, options, true);
  if (values.help) return { name: "help" };
  const [from, to, ...more] = positionals;
  if (from === undefined || to === undefined || more.length > 0) {
    throw new UsageError(
      "cp takes two paths, one of them in the guest: lanebox cp [OPTION…] guest:/PATH PATH",
    );
  }
  const [direction, guest, hostPath] = to.startsWith(GUEST)
    ? (["in", to, from] as const)
    : (["out", from, to] as const);
  if (!guest.startsWith(`${GUEST}/`) || hostPath.startsWith(GUEST)) {
    throw new UsageError(
      `cp: expected guest:/PATH and a path of this machine, got '${argv.join(" ")}'`,
    );
  }
  const { image, persistent, isolation } = machine(values);
  if (direction === "in" && persistent === undefined) {
    throw new UsageError(
      "cp into the guest needs --persistent: what is copied would be gone with its VM",
    );
  }
  const guestPath = guest.slice(GUEST.length);
  return { name: "cp", image, persistent, isolation, direction, guestPath, hostPath };
}

function parseImage([first, ...rest]: readonly string[]): Command {
  switch (first) {
    case "info":
      return parseInfo(rest);
    case "flatten":
      return parseFlatten(rest);
    case "pull":
      return parsePull(rest);
    case "help":
    case "--help":
    case "-h":
      return { name: "help" };
    case undefined:
      throw new UsageError("a command is missing after image: info, flatten or pull");
    default:
      throw new UsageError(`unknown command 'image ${first}': expected info, flatten or pull`);
  }
}

const diskOptions = {
  ...common,
  format: { type: "string" },
  persistent: { type: "string" },
} as const;

function parseInfo(argv: readonly string[]): Command {
  const options = { ...diskOptions, json: { type: "boolean" } } as const;
  const { values, positionals } = parse(argv, options, true);
  if (values.help) return { name: "help" };
  const [image, ...more] = positionals;
  if (image === undefined || more.length > 0) {
    throw new UsageError("image info takes one image: lanebox image info [OPTION…] IMAGE");
  }
  return { name: "image-info", disk: disk(image, values), json: values.json ?? false };
}

function parseFlatten(argv: readonly string[]): Command {
  const options = {
    ...diskOptions,
    "cluster-size": { type: "string" },
    "no-compress": { type: "boolean" },
  } as const;
  const { values, positionals } = parse(argv, options, true);
  if (values.help) return { name: "help" };
  const [image, dest, ...more] = positionals;
  if (image === undefined || dest === undefined || dest === "" || more.length > 0) {
    throw new UsageError(
      "image flatten takes an image and a file to make: lanebox image flatten [OPTION…] IMAGE DEST",
    );
  }
  return {
    name: "image-flatten",
    disk: disk(image, values),
    dest: resolve(dest),
    clusterSize: checked("--cluster-size", number(values["cluster-size"]), clusterSize),
    compress: !(values["no-compress"] ?? false),
  };
}

function parsePull(argv: readonly string[]): Command {
  const options = {
    ...common,
    name: { type: "string" },
    "insecure-registry": { type: "string", multiple: true },
    "max-layer-mib": { type: "string" },
    "max-image-mib": { type: "string" },
    json: { type: "boolean" },
  } as const;
  const { values, positionals } = parse(argv, options, true);
  if (values.help) return { name: "help" };
  const [reference, ...more] = positionals;
  if (reference === undefined || reference.startsWith("-") || more.length > 0) {
    throw new UsageError("image pull takes one reference: lanebox image pull [OPTION…] REFERENCE");
  }
  const limits = (["max-layer-mib", "max-image-mib"] as const).flatMap((option) => {
    const mib = checked(`--${option}`, number(values[option]), integer(1, 1024 * 1024));
    return mib === undefined ? [] : [[`--${option}`, String(mib)] as const];
  });
  return {
    name: "image-pull",
    reference,
    imageName: checked("--name", values.name, imageName),
    insecureRegistries: values["insecure-registry"] ?? [],
    limits,
    json: values.json ?? false,
  };
}

/** A file is told from a name by a slash in it; a name with one ends with a version. */
function disk(image: string, values: { format?: string; persistent?: string }): DiskArgument {
  const given = checked("--format", values.format, oneOf("qcow2", "raw"));
  const persistent = filePath("--persistent", values.persistent);
  if (!image.includes("/") || /^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(image)) {
    if (given !== undefined)
      throw new UsageError("--format: it is for files, not for named images");
    const name = checked("IMAGE", image, imageName) as string;
    return { image: { name }, format: undefined, persistent };
  }
  const format = given ?? FORMATS.find(([ending]) => image.endsWith(ending))?.[1];
  if (format === undefined) {
    throw new UsageError(`the format of '${image}' is not known: give --format qcow2 or raw`);
  }
  return { image: { path: resolve(image) }, format, persistent };
}

function filePath(option: string, given: string | undefined): string | undefined {
  if (given === "") throw new UsageError(`${option}: expected the path of a file`);
  return given === undefined ? undefined : resolve(given);
}

/** What a file's name says; its content is not asked, for a guest may have written it. */
const FORMATS = [
  [".qcow2", "qcow2"],
  [".raw", "raw"],
  [".img", "raw"],
] as const;

/** What `run` and `shell` both say of the VM and its environment. */
function machine(values: {
  image?: string;
  persistent?: string;
  cpus?: string;
  memory?: string;
  env?: string[];
  mount?: string[];
  publish?: string[];
  "allow-host"?: string[];
  isolation?: string;
}) {
  return {
    image: checked("--image", values.image ?? DEFAULT_IMAGE, imageName) as string,
    persistent: filePath("--persistent", values.persistent),
    cpus: checked("--cpus", number(values.cpus), integer(1, 64)),
    memoryMiB: checked("--memory", number(values.memory), integer(128, 1_048_576)),
    env: variables(values.env ?? []),
    isolation: checked("--isolation", values.isolation, isolation),
    mounts: mountArguments(values.mount ?? []),
    publish: (values.publish ?? []).map(publishArgument),
    allowHosts: (values["allow-host"] ?? []).map(
      (name) => checked("--allow-host", name, hostPattern)?.text ?? "",
    ),
  };
}

function parse<T extends NonNullable<ParseArgsConfig["options"]>>(
  args: readonly string[],
  options: T,
  allowPositionals = false,
) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals });
  } catch (error) {
    // Node's message goes on with advice in further sentences; the first names what is wrong.
    const [sentence] = (error as Error).message.split(/\. |\n/);
    throw new UsageError(`${sentence?.charAt(0).toLowerCase()}${sentence?.slice(1)}`);
  }
}

function checked<T>(option: string, value: unknown, check: Check<T>): T | undefined {
  if (value === undefined) return undefined;
  try {
    return check(value, option);
  } catch (error) {
    if (error instanceof SandboxError) throw new UsageError(error.message);
    throw error;
  }
}

/** Decimal digits as a number; anything else stays text, for the check to refuse by name. */
function number(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d{1,15}(\.\d{1,6})?$/.test(text) ? Number(text) : text;
}

function timeout(text: string | undefined): number | undefined {
  const seconds = number(text);
  if (seconds === undefined) return undefined;
  const ms = typeof seconds === "number" ? Math.round(seconds * 1000) : Number.NaN;
  if (!(ms >= 1 && ms < 2 ** 31)) {
    throw new UsageError(
      `--timeout: expected seconds, more than 0 and at most 2147483, got '${text}'`,
    );
  }
  return ms;
}

function variables(given: readonly string[]): Record<string, string> {
  const pairs = given.map((text) => {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--env: expected NAME=VALUE, got '${text}'`);
    return [text.slice(0, at), text.slice(at + 1)] as const;
  });
  return checked("--env", Object.fromEntries(pairs), environment) ?? {};
}

function mountArguments(given: readonly string[]): MountArgument[] {
  const mounts = given.map(mountArgument);
  for (const [index, { target }] of mounts.entries()) {
    if (mounts.findIndex((other) => other.target === target) !== index) {
      throw new UsageError(`--mount: '${target}' is given twice`);
    }
  }
  if (mounts.length > MOUNTS_MAX) {
    throw new UsageError(`--mount: ${mounts.length} mounts, where ${MOUNTS_MAX} are the most`);
  }
  return mounts;
}

/** SRC:DST[:ro]. A colon in SRC is part of it: DST begins at the last ":/". */
function mountArgument(given: string): MountArgument {
  const readOnly = given.endsWith(":ro");
  const pair = readOnly ? given.slice(0, -3) : given;
  const at = pair.lastIndexOf(":/");
  if (at < 1 || pair.includes(":", at + 1))
    throw new UsageError(`--mount: expected SRC:DST or SRC:DST:ro, got '${given}'`);
  const target = checked("--mount", pair.slice(at + 1), mountTarget) ?? "";
  const source = resolve(pair.slice(0, at));
  checked("--mount", source, (value, path) => requireDirectory(String(value), path));
  return { source, target, access: readOnly ? "ro" : "rw" };
}

/** `[[HOST:][HOSTPORT]:]GUESTPORT`; an IPv6 host in brackets. */
function publishArgument(text: string): CheckedPublish {
  const match = /^(?:(?:(\[[^\]]*\]|[^:[\]]*):)?(\d{0,5}):)?(\d{1,5})$/.exec(text);
  if (match === null) {
    throw new UsageError(`--publish: expected [[HOST:]HOSTPORT:]GUESTPORT, got '${text}'`);
  }
  const [, host, hostPort, guestPort] = match;
  const bare = host?.replace(/^\[(.*)\]$/, "$1") || undefined;
  return {
    guestPort: checked("--publish", Number(guestPort), port) ?? 0,
    hostPort: checked("--publish", Number(hostPort ?? 0), integer(0, 65_535)) ?? 0,
    host: checked("--publish", bare, address),
  };
}
