// A root filesystem's image: a file and what is known about it.
import type { Architecture, ImageFact } from "./artifact-descriptor.js";
import { requireFile } from "./artifacts.js";

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
