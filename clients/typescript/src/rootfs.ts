// Root filesystems: images that boot read-only. Writable roots are refused by name.
import { join } from "node:path";
import {
  type Architecture,
  type ImageFact,
  imageFields,
  imageName,
} from "./artifact-descriptor.js";
import { findImages, machineArchitecture, requireFile } from "./artifacts.js";
import { notSupported, SandboxError } from "./errors.js";
import { absolutePath, type Check, invalid, object } from "./validate.js";

/** An image file and what is known about it. */
export interface RootfsImageOptions {
  /** Name with a fixed version, such as `"debian:12"`; `latest` is refused. */
  readonly name: string;
  /** Absolute path of the file on the host. */
  readonly path: string;
  /** How the file is laid out: `"qcow2"` (no backing file, no encryption) or `"raw"`. */
  readonly format: "qcow2" | "raw";
  /** Processor that the image is for: `"x86_64"` or `"aarch64"`; must be this machine's. */
  readonly architecture: Architecture;
  /** `"sha256:"` and 64 hexadecimal digits: the digest of the whole file. Checked at boot. */
  readonly digest: string;
  /** Size of the file in bytes. Checked at boot. */
  readonly sizeBytes: number;
  /** What is known about the environment in the image. */
  readonly facts?: readonly ImageFact[] | undefined;
}

/** A root filesystem, made by {@link rootfs}. A definition takes it as `rootfs`. */
export class RootfsImage {
  /** Name with its version, such as `"debian:12"`. */
  readonly name: string;
  /** Digest of the image file. */
  readonly digest: string;
  /** What is known about the environment in the image. */
  readonly facts: readonly ImageFact[];
  /** @internal */
  readonly path: string;
  /** @internal */
  readonly format: "qcow2" | "raw";
  /** @internal */
  readonly sizeBytes: number;

  /** @internal */
  constructor(image: Required<Omit<RootfsImageOptions, "architecture">>) {
    this.name = image.name;
    this.digest = image.digest;
    this.facts = image.facts ?? [];
    this.path = image.path;
    this.format = image.format;
    this.sizeBytes = image.sizeBytes;
    Object.freeze(this);
  }

  /** @internal Throws `artifact-missing` when the file is gone. */
  requireFile(): void {
    requireFile(this.path);
  }
}

/** @internal The check of the option that takes a root filesystem. */
export const rootfsImage: Check<RootfsImage> = (value, path) => {
  if (value instanceof RootfsImage) return value;
  throw invalid(path, "what rootfs.builtIn() or rootfs.image() returns", value);
};

const checkImage = object({ ...imageFields, path: absolutePath });

function builtIn(given: string): RootfsImage {
  const name = imageName(given, "name");
  const { images, problems } = findImages();
  const found = images.find(({ descriptor }) => descriptor.name === name);
  if (found === undefined) {
    const id = name.replaceAll(/[:/]/g, "-");
    const unread = problems.map(({ message }) => `; ${message}`).join("");
    throw new SandboxError("artifact-missing", `The image ${name} is not installed${unread}`, {
      remedy: `Run: npm install @lanebox/image-${id}, or in a checkout of Lanebox: scripts/build-image ${id}. \`lanebox images\` lists what is installed.`,
    });
  }
  const { descriptor, directory } = found;
  return new RootfsImage({ ...descriptor, path: join(directory, descriptor.path) });
}

function image(options: RootfsImageOptions): RootfsImage {
  const checked = checkImage(options, "options");
  const machine = machineArchitecture();
  if (checked.architecture !== machine) {
    const expected =
      machine === undefined
        ? "a machine that Lanebox runs on"
        : `"${machine}", which this machine is`;
    throw invalid("options.architecture", expected, checked.architecture);
  }
  return new RootfsImage(checked);
}

function refused(name: string): (...args: unknown[]) => never {
  return () => {
    throw notSupported(
      `rootfs.${name}`,
      "Boot the image itself: its root is read-only, with tmpfs on /tmp, /run and /mnt",
    );
  };
}

/** Root filesystems. A plain image boots read-only, with tmpfs on /tmp, /run and /mnt. */
export const rootfs = {
  /**
   * An installed image package or a locally built one, by its name, such as `"debian:12"`.
   * Throws `invalid-argument` for a name without a fixed version and `artifact-missing`, with how to
   * get it, for one that is not there.
   */
  builtIn,
  /** Any image file. Throws `invalid-argument`; whether the file is there and right is checked at boot. */
  image,
  /** A writable root in memory. Not in this version: throws `not-supported`. */
  ephemeral: refused("ephemeral"),
  /** A writable root in the caller's store. Not in this version: throws `not-supported`. */
  cow: refused("cow"),
  /** A writable root in a local file. Not in this version: throws `not-supported`. */
  persistent: refused("persistent"),
} as const;
