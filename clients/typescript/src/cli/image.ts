// `lanebox image`: what an image is, and an image with what lies over it as one file.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { ImageFact } from "../artifact-descriptor.js";
import { requireFile } from "../artifacts.js";
import { type DiskSizes, inspectDisk } from "../inspect-disk.js";
import { machineArchitecture } from "../machine.js";
import { rootfs } from "../rootfs.js";
import { RootfsImage } from "../rootfs-image.js";
import type { Rootfs } from "../writable-rootfs.js";
import type { DiskArgument, FlattenCommand, ImageInfoCommand } from "./arguments.js";
import { mebibytes } from "./images.js";
import { Interrupt } from "./interrupt.js";
import { write } from "./output.js";

/** What `--json` prints. `name` is absent for a file. */
interface Report extends DiskSizes {
  readonly name?: string;
  readonly path: string;
  readonly format: string;
  readonly architecture: string | undefined;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly facts: readonly ImageFact[];
}

/** Prints what an image is. */
export function imageInfo({ disk, json }: ImageInfoCommand): Promise<number> {
  return interruptible(async (signal) => {
    const image = await openImage(disk, signal);
    const sizes = await inspectDisk(over(image, disk), signal);
    const { path, format, digest, sizeBytes, facts } = image;
    const report: Report = {
      ...("name" in disk.image ? { name: image.name } : {}),
      path,
      format,
      architecture: machineArchitecture(),
      digest,
      sizeBytes,
      facts,
      ...sizes,
    };
    const shown = json ? `${JSON.stringify(report, null, 2)}\n` : text(report, disk);
    await write(process.stdout, shown);
    return 0;
  });
}

/** Writes the image, and prints what `rootfs.image` must be told of it. */
export function flattenCommand(command: FlattenCommand): Promise<number> {
  const { disk, dest, clusterSize, compress } = command;
  return interruptible(async (signal) => {
    const source = over(await openImage(disk, signal), disk);
    const onProgress = process.stderr.isTTY ? showProgress : undefined;
    const options = { source, dest, clusterSize, compress, signal, onProgress };
    await rootfs.flatten({ format: "qcow2", ...options });
    if (onProgress) process.stderr.write("\r\x1b[K");
    const { digest, sizeBytes } = await measure(dest, signal);
    await write(process.stdout, rows({ path: dest, file: sizeOf(sizeBytes), digest }));
    return 0;
  });
}

async function interruptible(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const interrupt = new Interrupt();
  try {
    return await work(interrupt.signal);
  } catch (error) {
    if (interrupt.status !== undefined) return interrupt.status;
    throw error;
  } finally {
    interrupt.dispose();
  }
}

/** An image by its name; of a file everything is found out, for the helper to check it by. */
async function openImage(disk: DiskArgument, signal: AbortSignal): Promise<RootfsImage> {
  if ("name" in disk.image) return rootfs.builtIn(disk.image.name);
  const { path } = disk.image;
  requireFile(path);
  const measured = await measure(path, signal);
  return new RootfsImage({
    name: path,
    path,
    format: disk.format ?? "raw",
    facts: [],
    ...measured,
  });
}

function over(base: RootfsImage, { persistent: path }: DiskArgument): Rootfs {
  if (path === undefined) return base;
  requireFile(path);
  return rootfs.persistent({ base, path });
}

async function measure(
  path: string,
  signal: AbortSignal,
): Promise<{ digest: string; sizeBytes: number }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const data of createReadStream(path, { signal, highWaterMark: 1024 * 1024 })) {
    hash.update(data as Uint8Array);
    sizeBytes += (data as Uint8Array).byteLength;
  }
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

function showProgress({ positionBytes, sizeBytes }: { positionBytes: number; sizeBytes: number }) {
  process.stderr.write(`\r${Math.floor((100 * positionBytes) / sizeBytes)} %`);
}

function text(report: Report, disk: DiskArgument): string {
  const { name, path, format, digest, sizeBytes, diskBytes, dataBytes, overlayBytes } = report;
  return rows({
    name,
    path,
    format,
    file: sizeOf(sizeBytes),
    digest,
    disk: sizeOf(diskBytes),
    data: sizeOf(dataBytes),
    overlay: disk.persistent === undefined ? undefined : sizeOf(overlayBytes),
  });
}

function rows(fields: Record<string, string | undefined>): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padEnd(8)}${value}\n`)
    .join("");
}

function sizeOf(bytes: number): string {
  return `${bytes} bytes (${mebibytes(bytes)})`;
}
