// Compares what is installed with the manifest of a release.
import { existsSync, readdirSync } from "node:fs";
import { join, sep } from "node:path";
import { digestFile } from "./artifact-digest.js";
import { artifactDirectories, packageDirectory } from "./artifacts.js";
import { SandboxError } from "./errors.js";
import { helperPackageName } from "./machine.js";
import { type ReleaseManifest, type ReleasePackage, readManifest } from "./release-manifest.js";

/** What was found of one file. */
export interface FileFinding {
  /** In the package. */
  readonly path: string;
  /** `unexpected`: it is there and the manifest does not have it. */
  readonly status: "ok" | "differs" | "missing" | "unexpected";
  /** What is different, for people. */
  readonly detail: string;
}

/** What was found of one package. */
export interface PackageFinding {
  readonly name: string;
  /** `not-installed` is one that is not there and need not be; `missing` one that every boot needs. */
  readonly status: "ok" | "differs" | "missing" | "not-installed";
  readonly directory: string | null;
  /** Those that are not as they should be, and how many are. */
  readonly filesOk: number;
  readonly wrong: readonly FileFinding[];
}

/** The manifest that came with this package. */
export const ownManifest = join(packageDirectory, "release.json");

/** Reads the manifest at `path`, or the one of this package. Throws `artifact-missing` or `artifact-invalid`. */
export function openManifest(path: string | undefined): ReleaseManifest {
  if (path === undefined && !existsSync(ownManifest)) {
    throw new SandboxError(
      "artifact-missing",
      `There is no manifest ${ownManifest}: this copy of Lanebox was not made by a release`,
      {
        remedy: "Give one: lanebox doctor --verify --manifest FILE; scripts/release-pack makes it",
      },
    );
  }
  return readManifest(path ?? ownManifest);
}

/** Compares every package of the manifest that is for this machine with what a boot would use. */
export async function verifyRelease({ packages }: ReleaseManifest): Promise<PackageFinding[]> {
  const findings: PackageFinding[] = [];
  const helper = `@lanebox/${helperPackageName()}`;
  for (const wanted of packages) {
    const { name } = wanted;
    const image = name.startsWith("@lanebox/image-");
    if (name !== "lanebox" && name !== helper && !image) continue; // for another machine
    const directory = installed(name);
    if (directory === undefined) {
      const status = image ? "not-installed" : "missing";
      findings.push({ name, status, directory: null, filesOk: 0, wrong: [] });
    } else {
      findings.push(await verifyPackage(wanted, directory));
    }
  }
  if (!findings.some(({ name }) => name === helper)) {
    findings.push({ name: helper, status: "missing", directory: null, filesOk: 0, wrong: [] });
  }
  return findings;
}

/** The folder of a package that a boot would use; undefined when there is none. */
function installed(name: string): string | undefined {
  if (name === "lanebox") return packageDirectory;
  const folder = name.slice("@lanebox/".length);
  const descriptor = folder.startsWith("image-") ? "image.json" : "artifact.json";
  return artifactDirectories()
    .map((parent) => join(parent, folder))
    .find((directory) => existsSync(join(directory, descriptor)));
}

async function verifyPackage(wanted: ReleasePackage, directory: string): Promise<PackageFinding> {
  const wrong: FileFinding[] = [];
  for (const [path, { sha256, sizeBytes }] of wanted.files) {
    const finding = await verifyFile(join(directory, path), { sha256, sizeBytes });
    if (finding !== undefined) wrong.push({ path, ...finding });
  }
  const filesOk = wanted.files.size - wrong.length;
  for (const path of present(directory, wanted.name)) {
    if (!wanted.files.has(path)) {
      wrong.push({ path, status: "unexpected", detail: "the manifest does not have it" });
    }
  }
  const status = wrong.length === 0 ? "ok" : "differs";
  return { name: wanted.name, status, directory, filesOk, wrong };
}

async function verifyFile(
  path: string,
  wanted: { readonly sha256: string; readonly sizeBytes: number },
): Promise<Omit<FileFinding, "path"> | undefined> {
  try {
    const { digest, sizeBytes } = await digestFile(path);
    if (sizeBytes !== wanted.sizeBytes) {
      const detail = `it has ${sizeBytes} bytes where ${wanted.sizeBytes} are expected`;
      return { status: "differs", detail };
    }
    if (digest !== `sha256:${wanted.sha256}`) {
      const detail = `its digest is ${digest} where sha256:${wanted.sha256} is expected`;
      return { status: "differs", detail };
    }
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") {
      return { status: "missing", detail: "there is no such file" };
    }
    return { status: "differs", detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Paths of the files in a package, but for those that come there otherwise than by installing it. */
function present(directory: string, name: string): string[] {
  // What setup-macos makes has a descriptor of its own, see signed-helper.ts.
  const others = name === "lanebox" ? ["node_modules"] : ["node_modules", "signed"];
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(directory.length))
    .map((path) => path.split(sep).filter((part) => part !== ""))
    .filter(([top]) => top !== undefined && !others.includes(top))
    .map((parts) => parts.join("/"))
    .filter((path) => !(name === "lanebox" && path === "release.json"))
    .sort();
}
