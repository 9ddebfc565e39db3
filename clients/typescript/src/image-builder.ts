// The program that makes image files out of images of OCI registries: a file of the helper package.
import { join } from "node:path";
import { readHelperDescriptor } from "./artifact-descriptor.js";
import { verifyExecutable } from "./artifact-digest.js";
import { refuseWritableByOthers } from "./artifact-safety.js";
import { findHelper } from "./artifacts.js";
import { SandboxError } from "./errors.js";
import { helperPackageName } from "./machine.js";

/**
 * Its path, when it is what the package says. Throws `artifact-missing`, `artifact-invalid` or
 * `artifact-unsafe`.
 */
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
  refuseWritableByOthers(path);
  await verifyExecutable({ path, digest: `sha256:${file.sha256}`, sizeBytes: file.sizeBytes });
  return path;
}
