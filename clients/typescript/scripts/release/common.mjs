// What the release's scripts share: where things are, and how a failure is told.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const checkout = fileURLToPath(new URL("../../../../", import.meta.url));
export const client = join(checkout, "clients/typescript");

/** An error for people: its message is all that is shown. */
export class ReleaseError extends Error {}

export function fail(message) {
  throw new ReleaseError(message);
}

/** What a command prints. */
export function output(command, args, options = {}) {
  try {
    return execFileSync(command, args, {
      encoding: "utf8",
      maxBuffer: 256 * 1024 * 1024,
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
    });
  } catch (error) {
    if (error.code === "ENOENT") fail(`the command ${command} is not installed`);
    fail(`${command} ${args.join(" ")} failed: ${error.stderr || error.message}`);
  }
}

/** Digest and size of a file, as manifests have them. */
export function measure(path) {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  const file = openSync(path, "r");
  let sizeBytes = 0;
  try {
    for (let count = -1; count !== 0; sizeBytes += count) {
      count = readSync(file, buffer, 0, buffer.length, null);
      hash.update(buffer.subarray(0, count));
    }
  } finally {
    closeSync(file);
  }
  return { sha256: hash.digest("hex"), sizeBytes };
}

export function readJson(path) {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** The lines of a lock file, each as its fields. */
export function lockLines(text) {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return lines.map((line) => line.split(" "));
}
