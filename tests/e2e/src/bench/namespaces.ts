/** Network namespaces of one benchmark, and what runs in them. Needs root. */

import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);

export const DEADLINE_MS = 60_000;

/** The namespace of the servers and of what connects to them. */
export const HOST = `lanebox-bench-${process.pid}`;
const started: ChildProcess[] = [];
const namespaces: string[] = [];

/** Runs `ip`. */
export function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}

/** A new namespace. */
export function addNamespace(name: string): void {
  ip("netns", "add", name);
  namespaces.push(name);
  ip("-n", name, "link", "set", "lo", "up");
}

/** Starts something that stays; `told`: what it says when it is there. */
export async function start(
  namespace: string,
  command: string[],
  told?: string,
): Promise<ChildProcess> {
  const child = spawn("ip", ["netns", "exec", namespace, ...command], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  started.push(child);
  let output = "";
  const ready = new Promise<void>((resolve, reject) => {
    const hear = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
      if (told !== undefined && output.includes(told)) resolve();
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("close", () => reject(new Error(`${command.join(" ")} has ended:\n${output}`)));
    const deadline = setTimeout(() => reject(new Error(`${command[0]} is not there`)), DEADLINE_MS);
    deadline.unref();
  });
  // Whoever does not wait for it is not to be told of its end.
  ready.catch(() => undefined);
  if (told !== undefined) await ready;
  return child;
}

/** Runs something to its end. What stays is heard meanwhile: who is not would wait to be. */
export async function run(namespace: string, command: string[]): Promise<string> {
  const options = { timeout: DEADLINE_MS, maxBuffer: 64 << 20 };
  const { stdout } = await execute("ip", ["netns", "exec", namespace, ...command], options);
  return stdout;
}

/** Ends what was started, and removes the namespaces. */
export function endAll(): void {
  for (const child of started) child.kill("SIGKILL");
  for (const name of namespaces) ip("netns", "del", name);
}
