/** A project that has installed the packed packages, and nothing else: no registry is asked. */

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { artifacts, checkout } from "./artifacts.js";

const run = promisify(execFile);
const client = join(checkout, "clients/typescript");
const MAX_OUTPUT = 64 * 1024 * 1024;

/** Packages of npm that `lanebox` depends on, which are packed from where the client has them. */
const DEPENDENCIES = [
  "@bufbuild/protobuf",
  "@connectrpc/connect",
  "@connectrpc/connect-node",
  "detect-libc",
];

/** A new folder outside of the checkout. */
export function newFolder(): string {
  return realpathSync(mkdtempSync(join(tmpdir(), "lanebox-packages-")));
}

/** Makes the packages with these short names in `folder`; returns the paths of the tarballs. */
export async function packRelease(
  folder: string,
  packages: readonly string[],
  options: readonly string[] = [],
): Promise<string[]> {
  const script = join(client, "scripts/release/pack.mjs");
  const chosen = [`--output=${folder}`, `--artifacts=${artifacts}`, `--only=${packages.join(",")}`];
  await run(process.execPath, [script, ...chosen, ...options], { maxBuffer: MAX_OUTPUT });
  return tarballs(folder);
}

/** Packs what `lanebox` depends on. */
export async function packDependencies(folder: string): Promise<string[]> {
  for (const name of DEPENDENCIES) {
    const source = join(client, "node_modules", name);
    await run("npm", ["pack", "--silent", "--ignore-scripts", source], { cwd: folder });
  }
  return tarballs(folder);
}

function tarballs(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  return names.sort().map((name) => join(folder, name));
}

/** A project with packages that are installed from tarballs. */
export class Project {
  readonly folder = newFolder();
  readonly #cache = newFolder();

  constructor() {
    const manifest = { name: "a-project", private: true, type: "module" };
    writeFileSync(join(this.folder, "package.json"), JSON.stringify(manifest));
  }

  /** Installs tarballs with npm, offline and with an empty cache. */
  async install(files: readonly string[]): Promise<void> {
    const options = ["--offline", "--no-audit", "--no-fund", `--cache=${this.#cache}`];
    await run("npm", ["install", ...options, ...files], { cwd: this.folder, env: environment() });
  }

  /** Where a package is, as npm has put it. */
  package(name: string): string {
    return join(this.folder, "node_modules", name);
  }

  /** Runs a program of the project's folder, or the text of one. */
  async node(program: string): Promise<string> {
    const file = join(this.folder, "program.mjs");
    writeFileSync(file, program);
    const { stdout } = await run(process.execPath, [file], {
      cwd: this.folder,
      env: environment(),
    });
    return stdout;
  }

  /** Runs the command `lanebox` of the project. */
  async lanebox(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const command = join(this.folder, "node_modules/.bin/lanebox");
    try {
      const { stdout, stderr } = await run(command, args, {
        cwd: this.folder,
        env: environment(),
        maxBuffer: MAX_OUTPUT,
      });
      return { code: 0, stdout, stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as Error & {
        code: unknown;
        stdout: string;
        stderr: string;
      };
      if (typeof code !== "number") throw error;
      return { code, stdout, stderr };
    }
  }

  remove(): void {
    for (const folder of [this.folder, this.#cache]) {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

/** This program's environment, without what would lead to other artifacts than the installed ones. */
function environment(): NodeJS.ProcessEnv {
  const { LANEBOX_ARTIFACTS: _, ...rest } = process.env;
  return { ...rest, LANEBOX_MIN_ISOLATION: "emulated" };
}
