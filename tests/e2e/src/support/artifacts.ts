/** The artifacts that the checkout built, read directly so that tests can damage copies of them. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout's root. */
export const checkout = fileURLToPath(new URL("../../../../", import.meta.url));

/** The folder that holds one folder a package. */
export const artifacts = process.env.LANEBOX_ARTIFACTS ?? join(checkout, "artifacts");

export interface ImageFile {
  path: string;
  digest: string;
  sizeBytes: number;
}

/** The image file of a name such as "busybox:1.35". */
export function imageFile(name: string): ImageFile {
  for (const folder of readdirSync(artifacts)) {
    if (!folder.startsWith("image-")) continue;
    const text = readFileSync(join(artifacts, folder, "image.json"), "utf8");
    const descriptor = JSON.parse(text) as ImageFile & { name: string };
    if (descriptor.name === name) {
      return { ...descriptor, path: join(artifacts, folder, descriptor.path) };
    }
  }
  throw new Error(`${name} is not among ${artifacts}`);
}

/** "sha256:…" of bytes. */
export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
