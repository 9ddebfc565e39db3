// Root filesystems: images that boot read-only, and writable roots over them.
import { join } from "node:path";
import { imageFields, imageName } from "./artifact-descriptor.js";
import { findImages } from "./artifacts.js";
import { bytes } from "./disk-bytes.js";
import { SandboxError } from "./errors.js";
import { flatten } from "./flatten.js";
import { machineArchitecture } from "./machine.js";
import { RootfsImage, type RootfsImageOptions } from "./rootfs-image.js";
import { absolutePath, invalid, object } from "./validate.js";
import { compose, cow, ephemeral, persistent } from "./writable-rootfs.js";

const checkImage = object({ ...imageFields, path: absolutePath });

function builtIn(given: string): RootfsImage {
  const name = imageName(given, "name");
  const { images, problems } = findImages();
  const found = images.find(({ descriptor }) => descriptor.name === name);
  if (found === undefined) {
    const id = name.replaceAll(/[:/]/g, "-");
    const itsOwn = problems.find(({ folder }) => folder === `image-${id}`);
    if (itsOwn !== undefined) throw itsOwn.error;
    const unread = problems.map(({ error }) => `; ${error.message}`).join("");
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

/** Root filesystems. A plain image boots read-only, with tmpfs on /tmp, /run and /mnt. */
export const rootfs = {
  /**
   * An installed image package or a locally built one, by its name, such as `"debian:12"`.
   * Throws `invalid-argument` for a name without a fixed version; `artifact-missing`, with how to get
   * it, for one that is not there; `artifact-invalid`, `artifact-unsafe` or `platform-unsupported` for
   * one that is there and cannot be used.
   */
  builtIn,
  /** Any image file. Throws `invalid-argument`; whether the file is there and right is checked at boot. */
  image,
  /**
   * A writable root whose changes are kept in the helper's memory and gone with the VM. Each boot
   * begins with the image. Throws `invalid-argument`.
   */
  ephemeral,
  /**
   * A writable root whose changes are kept by the caller's store: see `SandboxBlockStore`. A
   * guest's `fsync` has returned only after the store's `write` and `flush` have resolved. One VM at a
   * time may use a store's blocks. Throws `invalid-argument`.
   */
  cow,
  /**
   * An image with what a store has over it, to be flattened, or booted by `rootfs.cow({ source })`.
   * Throws `invalid-argument`.
   */
  compose,
  /**
   * Writes an image with all that lies over it as one standalone QCOW2 image, which `rootfs.image`
   * takes. Only what is allocated is read; the file is there when it is whole. Rejects with
   * `invalid-argument`, `file-error` (the destination), `disk-in-use`, `disk-invalid`, or an `AbortError`.
   */
  flatten,
  /**
   * The bytes of an image with all that lies over it, from the disk's first to its last, as chunks of
   * one size: a raw image, in order. What is not allocated is not read, and comes as zeros. A helper
   * without a VM reads, at the pace of the loop; leaving the loop ends it. The iteration rejects as
   * `flatten` does. Throws `invalid-argument`.
   */
  bytes,
  /**
   * A writable root whose changes are kept in a local file. What the guest has synced survives a
   * crash of anything at any time. Boot rejects with `disk-in-use` while another VM uses the file,
   * and with `disk-invalid` when it belongs to another image or is damaged. Throws `invalid-argument`.
   */
  persistent,
} as const;
