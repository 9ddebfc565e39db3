// What is observed in a running guest. It comes from there: a guest can lie about itself.
import { SandboxError } from "../errors.js";
import type { GuestFiles } from "../guest-files.js";
import { type EnvironmentFact, factsFrom } from "./fact.js";

const fact = factsFrom("guest");

/** Where programs are looked for: the PATH that processes start with. */
const PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/** Programs that are looked for. */
const COMMANDS = new Set(
  `apk apt-get awk bash bun busybox bzip2 cargo cc clang cmake curl dd deno diff dnf docker dpkg
  find g++ gcc git go grep gzip ip java jq less lua make mount nc node npm pacman patch perl php
  pip3 pnpm podman ps python3 rg rsync ruby rustc sed sh sha256sum sqlite3 ssh su sudo tar timeout
  unzip uv vi wget xargs xz yarn zypper`.split(/\s+/),
);
const PACKAGE_MANAGERS = [
  ["apt-get", "apt"],
  ["apk", "apk"],
  ["dnf", "dnf"],
  ["pacman", "pacman"],
  ["zypper", "zypper"],
] as const;
/** Bytes of a file that is read, and entries of a directory that are looked at. */
const MAX_BYTES = 1024 * 1024;
const MAX_ENTRIES = 100_000;

/** Looks. What cannot be found out is left out. */
export async function guestFacts(
  files: GuestFiles,
  signal: AbortSignal | undefined,
): Promise<EnvironmentFact[]> {
  const guest = new Observer(files, signal);
  const parts = await Promise.all([
    distro(guest),
    line(guest, "/proc/sys/kernel/osrelease", (text) => [fact("kernel", "release", text)]),
    line(guest, "/proc/self/mounts", rootMount),
    users(guest),
    commands(guest),
    interfaces(guest),
    resources(guest),
  ]);
  return parts.flat();
}

class Observer {
  readonly #files: GuestFiles;
  readonly #signal: AbortSignal | undefined;

  constructor(files: GuestFiles, signal: AbortSignal | undefined) {
    this.#files = files;
    this.#signal = signal;
  }

  /** A small text file; empty when it cannot be read. */
  async text(path: string): Promise<string> {
    const options = { encoding: "utf8", maxBytes: MAX_BYTES, signal: this.#signal } as const;
    return (await known(this.#files.readFile(path, options))) ?? "";
  }

  /** Names in a directory, with whether they are programs. */
  async names(path: string): Promise<Map<string, boolean>> {
    const found = new Map<string, boolean>();
    const read = async () => {
      for await (const { name, stat } of this.#files.readDir(path, { signal: this.#signal })) {
        const program =
          stat.type === "symlink" || (stat.type === "file" && (stat.mode & 0o111) > 0);
        found.set(name, program);
        if (found.size >= MAX_ENTRIES) break;
      }
    };
    await known(read());
    return found;
  }
}

/** What a look finds; undefined when the guest's own system says no. */
async function known<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (error instanceof SandboxError && error.errno !== undefined) return undefined;
    throw error;
  }
}

async function distro(guest: Observer): Promise<EnvironmentFact[]> {
  const text = await guest.text("/etc/os-release");
  const facts: EnvironmentFact[] = [];
  for (const [key, relation] of [
    ["ID", "name"],
    ["VERSION_ID", "version"],
    ["PRETTY_NAME", "title"],
  ] as const) {
    const value = new RegExp(`^${key}=["']?([^"'\\n]+)`, "m").exec(text)?.[1];
    if (value !== undefined) facts.push(fact("distro", relation, value));
  }
  return facts;
}

async function line(
  guest: Observer,
  path: string,
  read: (text: string) => EnvironmentFact[],
): Promise<EnvironmentFact[]> {
  const text = (await guest.text(path)).trim();
  return text === "" ? [] : read(text);
}

function rootMount(mounts: string): EnvironmentFact[] {
  const roots = mounts.split("\n").filter((mount) => mount.split(" ")[1] === "/");
  const options = roots.at(-1)?.split(" ")[3]?.split(",");
  if (options === undefined) return [];
  return [fact("rootfs", "mounted", options.includes("ro") ? "read-only" : "read-write")];
}

async function users(guest: Observer): Promise<EnvironmentFact[]> {
  const rows = (await guest.text("/etc/passwd")).split("\n").map((row) => row.split(":"));
  const shell = rows.find(([, , uid]) => uid === "0")?.[6];
  const ordinary = rows.filter(([, , uid]) => Number(uid) >= 1000 && Number(uid) < 60_000);
  return [
    ...(shell ? [fact("shell", "default", shell)] : []),
    ...ordinary.map(([name = ""]) => fact("user", "exists", name)),
  ];
}

async function commands(guest: Observer): Promise<EnvironmentFact[]> {
  const found = new Set<string>();
  for (const folder of await Promise.all(PATH.map((path) => guest.names(path)))) {
    for (const [name, program] of folder) if (program && COMMANDS.has(name)) found.add(name);
  }
  const manager = PACKAGE_MANAGERS.find(([command]) => found.has(command))?.[1] ?? "none";
  const exist = [...found].sort().map((name) => fact("command", "exists", name));
  return [fact("package-manager", "name", manager), ...exist];
}

async function interfaces(guest: Observer): Promise<EnvironmentFact[]> {
  const names = [...(await guest.names("/sys/class/net")).keys()].filter((name) => name !== "lo");
  return names.sort().map((name) => fact("network", "interface", name));
}

async function resources(guest: Observer): Promise<EnvironmentFact[]> {
  const [processors, memory] = await Promise.all([
    guest.text("/proc/cpuinfo"),
    guest.text("/proc/meminfo"),
  ]);
  const cpus = processors.match(/^processor\s*:/gm)?.length;
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(memory)?.[1];
  return [
    ...(cpus === undefined ? [] : [fact("resources", "cpus", String(cpus))]),
    ...(kib === undefined
      ? []
      : [fact("resources", "memory-mib", String(Math.floor(Number(kib) / 1024)))]),
  ];
}
