// The program that makes image files out of images of OCI registries: a file of the helper package.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { readHelperDescriptor } from "./artifact-descriptor.js";
import { findHelper, helperPackageName, requireFile } from "./artifacts.js";
import { SandboxError } from "./errors.js";

/** Its path, when it is what the package says. Throws `artifact-missing` or `artifact-invalid`. */
export async function findImageBuilder(): Promise<string> {
  const { directory } = findHelper();
  const descriptor = readHelperDescriptor(join(directory, "artifact.json"), helperPackageName());
  const file = descriptor.files["image-builder"];
  if (file === undefined) {
    throw new SandboxError("artifact-missing", `There is no image-builder in ${directory}`, {
      remedy: "Install a newer helper package, or in a checkout of Lanebox run scripts/build",
    });
  }
  const path = join(directory, "image-builder");
  requireFile(path);
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  if (hash.digest("hex") !== file.sha256) {
    throw new SandboxError("artifact-invalid", `${path} is not what its artifact.json says`, {
      remedy: "Install the package again, or build it again with scripts/build",
    });
  }
  return path;
}
