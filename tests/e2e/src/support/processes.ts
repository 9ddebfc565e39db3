/** What is running on the host, read from /proc: helpers of this program and their engines. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface HostProcess {
  pid: number;
  parent: number;
  name: string;
  state: string;
  command: string;
}

/** Every process on the host that can be seen. */
export function hostProcesses(): HostProcess[] {
  const found: HostProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "latin1");
      const close = stat.lastIndexOf(")");
      const [state = "", parent = "0"] = stat.slice(close + 2).split(" ");
      found.push({
        pid: Number(entry),
        parent: Number(parent),
        name: stat.slice(stat.indexOf("(") + 1, close),
        state,
        command: readFileSync(`/proc/${entry}/cmdline`, "latin1").replaceAll("\0", " "),
      });
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

/** All descendants of a process, zombies included. */
export function descendants(pid: number): HostProcess[] {
  const all = hostProcesses();
  const result: HostProcess[] = [];
  const wanted = new Set([pid]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const candidate of all) {
      if (wanted.has(candidate.parent) && !wanted.has(candidate.pid)) {
        wanted.add(candidate.pid);
        result.push(candidate);
        grew = true;
      }
    }
  }
  return result;
}

/** The helpers that a process (this one) has started. */
export function helpers(pid: number = process.pid): HostProcess[] {
  return descendants(pid).filter((p) => p.name.startsWith("sandbox-host"));
}

/** The engines under the helpers of a process (this one). */
export function engines(pid: number = process.pid): HostProcess[] {
  return descendants(pid).filter((p) => p.name.startsWith("qemu-system"));
}

/** Waits until a condition holds, for at most `ms`; tells whether it came to hold. */
export async function eventually(condition: () => boolean, ms = 5000): Promise<boolean> {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) return false;
    await sleep(20);
  }
  return true;
}

/** Whether a process is there and is not a zombie. */
export function isAlive(pid: number): boolean {
  return hostProcesses().some((p) => p.pid === pid && p.state !== "Z");
}

/** What a process's descriptors (this one's) point at. */
export function openDescriptors(pid: number = process.pid): string[] {
  const found: string[] = [];
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      found.push(readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      // The descriptor of the listing itself, or one that was closed meanwhile.
    }
  }
  return found;
}

/** Paths and abstract names of the Unix sockets that these processes hold. */
export function namedSockets(pids: number[]): string[] {
  const held = new Set(pids.flatMap((pid) => openDescriptors(pid)));
  // A confined helper has a network namespace of its own, with its own list.
  const lines = pids.flatMap((pid) => readFileSync(`/proc/${pid}/net/unix`, "utf8").split("\n"));
  const names = lines.flatMap((line) => {
    const [, , , , , , inode, name] = line.split(/\s+/);
    return name !== undefined && held.has(`socket:[${inode}]`) ? [name] : [];
  });
  return [...new Set(names)];
}

/** Resident memory that only this process uses plus its share of the rest (PSS), in KiB. */
export function memoryKiB(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const match = /^Pss:\s+(\d+) kB/m.exec(text);
  if (!match) throw new Error(`no Pss for ${pid}`);
  return Number(match[1]);
}
