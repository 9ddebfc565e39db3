// An artifacts directory whose sandbox-host is the stand-in, and what tests ask about it.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SandboxError } from "../errors.js";
import { helperPackageName, machineArchitecture } from "../machine.js";
import { rootfs } from "../rootfs.js";
import { defineSandbox, type Sandbox } from "../sandbox.js";
import { later, type Scenario } from "./fake-helper.js";

/** A stand-in that was set up. */
export interface Setup {
  readonly directory: string;
  readonly sandbox: Sandbox;
  /** Lines that the stand-ins have noted. */
  notes(): string[];
  /** Waits for a note. */
  noted(line: string): Promise<void>;
  /** Process ids of the stand-ins that are still there. */
  alive(): number[];
  remove(): void;
}

/** Milliseconds that a note may take on a slow machine. */
const NOTE_MS = 60_000;

/** Name of the image in the directory. */
export const FAKE_IMAGE = "fake:1.0";

/** Makes the directory and points `LANEBOX_ARTIFACTS` at it. */
export function setUp(scenario: Omit<Scenario, "log"> = {}): Setup {
  const directory = mkdtempSync(join(tmpdir(), "lanebox-test-"));
  const log = join(directory, "log");
  writeFileSync(log, "");
  writeArtifacts(directory, { ...scenario, log });
  process.env["LANEBOX_ARTIFACTS"] = directory;
  process.env["LANEBOX_MIN_ISOLATION"] = "emulated";
  const notes = () => readFileSync(log, "utf8").split("\n").slice(0, -1);
  return {
    directory,
    sandbox: defineSandbox({ rootfs: rootfs.builtIn(FAKE_IMAGE) }),
    notes,
    async noted(line) {
      for (const end = Date.now() + NOTE_MS; !notes().includes(line); await later(5)) {
        if (Date.now() > end) assert.fail(`'${line}' was not noted:\n${notes().join("\n")}`);
      }
    },
    alive: () => {
      const pids = notes().flatMap((line) =>
        line.startsWith("pid ") ? [Number(line.slice(4))] : [],
      );
      return pids.filter((pid) => existsSync(`/proc/${pid}`) || isAlive(pid));
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function writeArtifacts(directory: string, scenario: Scenario): void {
  const entry = new URL("./fake-helper.js", import.meta.url).href;
  const helper = `#!${process.execPath}\nimport(${JSON.stringify(entry)}).then((m) => m.serve(${JSON.stringify(scenario)}));\n`;
  const name = helperPackageName();
  const files = { "sandbox-host": helper, vmlinux: "a kernel", "initramfs.cpio": "an initramfs" };
  mkdirSync(join(directory, name));
  for (const [file, content] of Object.entries(files)) {
    writeFileSync(join(directory, name, file), content, { mode: 0o755 });
  }
  const architecture = machineArchitecture();
  const descriptor = {
    schema: 1,
    name,
    architecture,
    files: Object.fromEntries(
      Object.entries(files).map(([file, content]) => [
        file,
        { sha256: sha256(content), sizeBytes: content.length },
      ]),
    ),
  };
  writeFileSync(join(directory, name, "artifact.json"), JSON.stringify(descriptor));
  const image = "an image";
  mkdirSync(join(directory, "image-fake"));
  writeFileSync(join(directory, "image-fake", "rootfs.raw"), image);
  const imageDescriptor = {
    schema: 1,
    name: FAKE_IMAGE,
    id: "fake",
    architecture,
    format: "raw",
    path: "rootfs.raw",
    digest: `sha256:${sha256(image)}`,
    sizeBytes: image.length,
    virtualSizeBytes: image.length,
    facts: [{ topic: "os", relation: "is", value: "fake" }],
  };
  writeFileSync(join(directory, "image-fake", "image.json"), JSON.stringify(imageDescriptor));
}

function sha256(content: string): string {
  return createHash("sha256").update(content).digest("hex");
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Says whether an error is a SandboxError of this code with such a message; for `assert.throws`. */
export function refused(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof SandboxError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}
