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
 * The first folder of a name wins. With pnpm's layout the second place is where this package's own
 * dependencies and peers are linked, which is why images are optional peers of it.
 *
 * What is found must belong to root or to this user and be writable by nobody else. Sizes are looked
 * at here, the helper's digest before it is started; the helper checks the digests of kernel,
 * initramfs and image on the files that it opens.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type HelperDescriptor,
  type ImageDescriptor,
  readHelperDescriptor,
  readImageDescriptor,
} from "./artifact-descriptor.js";
import { type ArtifactFile, INSTALL_AGAIN } from "./artifact-digest.js";
import { refuseWritableByOthers } from "./artifact-safety.js";
import { SandboxError } from "./errors.js";
import {
  helperPackageName,
  type Machine,
  machineArchitecture,
  thisMachine,
  unsupported,
} from "./machine.js";
import { pulledImagesDirectory } from "./pulled-images.js";
import { signedHelper } from "./signed-helper.js";

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

/** The folder of this package. */
export const packageDirectory = fileURLToPath(new URL("..", import.meta.url));

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

/** The folder of the helper package. Throws `artifact-missing` or `platform-unsupported`. */
export function helperDirectory(machine: Machine = thisMachine()): string {
  const name = helperPackageName(machine);
  const directory = artifactDirectories()
    .map((parent) => join(parent, name))
    .find((folder) => existsSync(join(folder, "artifact.json")));
  if (directory !== undefined) return directory;
  const problem = unsupported(machine);
  if (problem !== undefined) {
    const remedy = "README.md of Lanebox lists the machines that it runs on";
    throw new SandboxError("platform-unsupported", problem, { remedy });
  }
  throw new SandboxError("artifact-missing", `The helper package ${name} is not installed`, {
    remedy: `Run: npm install @lanebox/${name} (npm leaves it out with --omit=optional, and when a lock file was made on another platform), or in a checkout of Lanebox: scripts/build`,
  });
}

/**
 * Finds the helper, the kernel and the initramfs. Throws `artifact-missing`, `artifact-invalid`,
 * `artifact-unsafe` or `platform-unsupported`. On macOS the copy that was signed goes before the
 * helper as it was released, unless `signed` is false.
 */
export function findHelper(
  machine: Machine = thisMachine(),
  { signed = true }: { readonly signed?: boolean } = {},
): HelperArtifacts {
  const directory = helperDirectory(machine);
  const path = join(directory, "artifact.json");
  refuseWritableByOthers(path);
  const descriptor = readHelperDescriptor(path, helperPackageName(machine));
  const architecture = machineArchitecture(machine);
  if (descriptor.architecture !== architecture) {
    throw new SandboxError(
      "artifact-invalid",
      `${path}: architecture: it is for ${descriptor.architecture}, and this machine is ${architecture ?? machine.arch}`,
      { remedy: INSTALL_AGAIN },
    );
  }
  const host = helperFile(directory, descriptor, "sandbox-host");
  return {
    directory,
    host: (signed && machine.platform === "darwin" && signedHelper(directory, host)) || host,
    kernel: helperFile(directory, descriptor, "vmlinux"),
    initramfs: helperFile(directory, descriptor, "initramfs.cpio"),
  };
}

/** One file of the helper package. */
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
      { remedy: INSTALL_AGAIN },
    );
  }
  refuseWritableByOthers(path);
  return { path, digest: `sha256:${sha256}`, sizeBytes };
}

/** What was found of image packages. */
export interface FoundImages {
  /** Those for this machine's processor, the first of each name. */
  readonly images: readonly FoundImage[];
  /** Those that are wrong or for another processor. They do not stand in the way of others. */
  readonly problems: readonly ImageProblem[];
}

/** What is wrong with an image package. */
export interface ImageProblem {
  /** The folder's name, such as `image-debian-12`. */
  readonly folder: string;
  readonly error: SandboxError;
}

/** Looks at all image packages. */
export function findImages(): FoundImages {
  const found = new Map<string, FoundImage>();
  const problems: ImageProblem[] = [];
  for (const parent of artifactDirectories()) {
    for (const folder of readdirSync(parent).sort()) {
      const directory = join(parent, folder);
      if (!folder.startsWith("image-") || !existsSync(join(directory, "image.json"))) continue;
      try {
        const descriptor = readImage(directory);
        if (!found.has(descriptor.name)) found.set(descriptor.name, { directory, descriptor });
      } catch (error) {
        if (!(error instanceof SandboxError)) throw error;
        problems.push({ folder: basename(directory), error });
      }
    }
  }
  return { images: [...found.values()], problems };
}

/** An image package that can be used here, but for its content, which is checked at boot. */
function readImage(directory: string): ImageDescriptor {
  const path = join(directory, "image.json");
  refuseWritableByOthers(path);
  const descriptor = readImageDescriptor(path);
  const architecture = machineArchitecture();
  if (descriptor.architecture !== architecture) {
    throw new SandboxError(
      "platform-unsupported",
      `The image ${descriptor.name} in ${directory} is for ${descriptor.architecture}, and this machine is ${architecture ?? process.arch}`,
    );
  }
  refuseWritableByOthers(join(directory, descriptor.path));
  return descriptor;
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
