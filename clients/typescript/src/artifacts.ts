/**
 * Where the helper, the kernel and the images are found.
 *
 * An artifact package is a folder with a short name:
 *
 * - `linux-x64-gnu` (platform, processor, C library): `artifact.json` and the files that it names:
 *   `sandbox-host`, `vmlinux`, `initramfs.cpio`.
 *   `{"schema":1,"name":"linux-x64-gnu","architecture":"x86_64","files":{"vmlinux":{"sha256":"…","sizeBytes":n},…}}`
 * - `image-<id>`: `image.json` and the image file that it names.
 *   `{"schema":1,"name":"debian:12","id":"debian-12","architecture":"x86_64","format":"qcow2",
 *   "path":"rootfs.qcow2","digest":"sha256:…","sizeBytes":n,"virtualSizeBytes":n,"facts":[{"topic","relation","value"}]}`
 *
 * Such folders are looked for, in this order, in
 *
 * 1. the directory that the environment variable `LANEBOX_ARTIFACTS` names (absolute; when it is set
 *    and is no directory, that is an error),
 * 2. `@lanebox/` in each `node_modules` that this package can see,
 * 3. `artifacts/` of the checkout of Lanebox that this package lies in, where `scripts/build` and
 *    `scripts/build-image` put them,
 * 4. the folder that `lanebox image pull` keeps images in.
 *
 * The first folder of a name wins.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Architecture,
  type HelperDescriptor,
  type ImageDescriptor,
  readHelperDescriptor,
  readImageDescriptor,
} from "./artifact-descriptor.js";
import { SandboxError } from "./errors.js";
import { pulledImagesDirectory } from "./pulled-images.js";

/** A file and what its digest must be. */
export interface ArtifactFile {
  /** Absolute. */
  readonly path: string;
  /** "sha256:" and 64 hexadecimal digits. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** The files that every boot needs. */
export interface HelperArtifacts {
  /** The folder they were found in. */
  readonly directory: string;
  readonly host: ArtifactFile;
  readonly kernel: ArtifactFile;
  readonly initramfs: ArtifactFile;
}

/** An image package that was found. */
export interface FoundImage {
  readonly directory: string;
  readonly descriptor: ImageDescriptor;
}

const packageDirectory = fileURLToPath(new URL("..", import.meta.url));

/** What this machine's processor is called in descriptors; undefined for one that Lanebox does not know. */
export function machineArchitecture(): Architecture | undefined {
  switch (process.arch) {
    case "x64":
      return "x86_64";
    case "arm64":
      return "aarch64";
    default:
      return undefined;
  }
}

/** The short name of the helper package for this machine. */
export function helperPackageName(): string {
  return `${process.platform}-${process.arch}${process.platform === "linux" ? "-gnu" : ""}`;
}

/** The directories that hold artifact packages, in the order they are searched. */
export function artifactDirectories(): string[] {
  const given = process.env["LANEBOX_ARTIFACTS"];
  const directories: string[] = [];
  if (given !== undefined && given !== "") {
    if (!isAbsolute(given) || !isDirectory(given)) {
      throw new SandboxError(
        "invalid-argument",
        `LANEBOX_ARTIFACTS: expected the absolute path of a directory, got '${given}'`,
      );
    }
    directories.push(given);
  }
  const modules = createRequire(import.meta.url).resolve.paths("@lanebox/artifacts") ?? [];
  directories.push(...modules.map((path) => join(path, "@lanebox")));
  const checkout = join(packageDirectory, "../..");
  if (existsSync(join(checkout, "Cargo.toml")) && isDirectory(join(checkout, "proto/lanebox"))) {
    directories.push(join(checkout, "artifacts"));
  }
  directories.push(pulledImagesDirectory());
  return directories.filter(isDirectory);
}

/** Finds the helper, the kernel and the initramfs. Throws `artifact-missing` or `artifact-invalid`. */
export function findHelper(): HelperArtifacts {
  const name = helperPackageName();
  const directory = artifactDirectories()
    .map((parent) => join(parent, name))
    .find((folder) => existsSync(join(folder, "artifact.json")));
  if (directory === undefined) {
    throw new SandboxError("artifact-missing", `The helper package ${name} is not installed`, {
      remedy: `Run: npm install @lanebox/${name}, or in a checkout of Lanebox: scripts/build`,
    });
  }
  const descriptor = readHelperDescriptor(join(directory, "artifact.json"), name);
  return {
    directory,
    host: helperFile(directory, descriptor, "sandbox-host"),
    kernel: helperFile(directory, descriptor, "vmlinux"),
    initramfs: helperFile(directory, descriptor, "initramfs.cpio"),
  };
}

/**
 * One file of the helper package. Its size is looked at here; the digests of kernel and initramfs
 * are checked by the helper, on the files it opens.
 */
function helperFile(
  directory: string,
  descriptor: HelperDescriptor,
  name: Exclude<keyof HelperDescriptor["files"], "image-builder">,
): ArtifactFile {
  const path = join(directory, name);
  const { sha256, sizeBytes } = descriptor.files[name];
  const found = fileSize(path);
  if (found === undefined) throw missingFile(path);
  if (found !== sizeBytes) {
    throw new SandboxError(
      "artifact-invalid",
      `${path} has ${found} bytes; its artifact.json says ${sizeBytes}`,
      {
        remedy: "Install the package again, or build it again with scripts/build",
      },
    );
  }
  return { path, digest: `sha256:${sha256}`, sizeBytes };
}

/** What was found of image packages. */
export interface FoundImages {
  /** Those for this machine's processor, the first of each name. */
  readonly images: readonly FoundImage[];
  /** Those whose descriptor is wrong. They do not stand in the way of others. */
  readonly problems: readonly SandboxError[];
}

/** Looks at all image packages. */
export function findImages(): FoundImages {
  const architecture = machineArchitecture();
  const found = new Map<string, FoundImage>();
  const problems: SandboxError[] = [];
  for (const parent of artifactDirectories()) {
    for (const folder of readdirSync(parent).sort()) {
      const directory = join(parent, folder);
      if (!folder.startsWith("image-") || !existsSync(join(directory, "image.json"))) continue;
      try {
        const descriptor = readImageDescriptor(join(directory, "image.json"));
        if (descriptor.architecture !== architecture || found.has(descriptor.name)) continue;
        found.set(descriptor.name, { directory, descriptor });
      } catch (error) {
        if (!(error instanceof SandboxError)) throw error;
        problems.push(error);
      }
    }
  }
  return { images: [...found.values()], problems };
}

/** Throws `artifact-missing` when there is no file at this path. */
export function requireFile(path: string): void {
  if (fileSize(path) === undefined) throw missingFile(path);
}

function missingFile(path: string): SandboxError {
  return new SandboxError("artifact-missing", `There is no file ${path}`, { errno: "ENOENT" });
}

function fileSize(path: string): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat?.isFile() ? stat.size : undefined;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
