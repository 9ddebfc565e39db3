// The descriptor files of artifact packages, `artifact.json`, `image.json` and `signed.json`: read,
// bounded, and checked like options. A wrong one is `artifact-invalid` and names the file and the field.
import { readFileSync, statSync } from "node:fs";
import { SandboxError } from "./errors.js";
import {
  type Check,
  integer,
  invalid,
  list,
  matching,
  nonEmptyText,
  object,
  oneOf,
  optional,
  text,
  withDefault,
} from "./validate.js";

/** Processors that Lanebox knows. */
export type Architecture = "x86_64" | "aarch64";

/** A fact about an environment, such as `{ topic: "os", relation: "is", value: "debian" }`. */
export interface ImageFact {
  readonly topic: string;
  readonly relation: string;
  readonly value: string;
}

/** Bytes that a descriptor may have. */
const DESCRIPTOR_MAX = 1024 * 1024;

const size = integer(1, Number.MAX_SAFE_INTEGER);
const file = object({
  sha256: matching(/^[0-9a-f]{64}$/, "64 hexadecimal digits"),
  sizeBytes: size,
});
const schema: Check<1> = (value, path) => {
  if (value !== 1) throw invalid(path, "1", value);
  return 1;
};
const architecture = oneOf("x86_64", "aarch64");

const helperDescriptor = object({
  schema,
  name: nonEmptyText,
  architecture,
  files: object({
    "sandbox-host": file,
    vmlinux: file,
    "initramfs.cpio": file,
    "image-builder": optional(file),
  }),
});

/** What `artifact.json` says. */
export type HelperDescriptor = ReturnType<typeof helperDescriptor>;

const signedDescriptor = object({
  schema,
  from: matching(/^sha256:[0-9a-f]{64}$/, '"sha256:" and 64 hexadecimal digits'),
  sha256: matching(/^[0-9a-f]{64}$/, "64 hexadecimal digits"),
  sizeBytes: size,
});

/** What `signed.json` says: what was signed, and what became of it. */
export type SignedDescriptor = ReturnType<typeof signedDescriptor>;

/** `name:tag`; a tag that moves, such as `latest`, is refused. */
export const imageName: Check<string> = (value, path) => {
  const pattern = /^[a-z0-9][a-z0-9._/-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
  const name = matching(pattern, 'an image name with its version, such as "debian:12"')(
    value,
    path,
  );
  if (name.endsWith(":latest")) {
    throw invalid(path, "a fixed version; there are no moving aliases such as latest", value);
  }
  return name;
};

/** What an image file is, in `image.json` and in `rootfs.image`. */
export const imageFields = {
  name: imageName,
  format: oneOf("qcow2", "raw"),
  architecture,
  digest: matching(/^sha256:[0-9a-f]{64}$/, '"sha256:" and 64 hexadecimal digits'),
  sizeBytes: size,
  facts: withDefault(
    list(object({ topic: nonEmptyText, relation: nonEmptyText, value: text })),
    [],
  ),
};

const imageDescriptor = object({
  ...imageFields,
  schema,
  id: matching(/^[a-z0-9][a-z0-9.-]{0,127}$/, "lower case letters, digits, dots and dashes"),
  path: matching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/, "the name of a file beside image.json"),
  virtualSizeBytes: size,
});

/** What `image.json` says. */
export type ImageDescriptor = ReturnType<typeof imageDescriptor>;

/** Reads `artifact.json` of the package with this short name. */
export function readHelperDescriptor(path: string, name: string): HelperDescriptor {
  const descriptor = readDescriptor(path, helperDescriptor);
  if (descriptor.name !== name) {
    throw new SandboxError(
      "artifact-invalid",
      `${path}: name: expected "${name}", got "${descriptor.name}"`,
    );
  }
  return descriptor;
}

/** Reads `signed.json`. */
export function readSignedDescriptor(path: string): SignedDescriptor {
  return readDescriptor(path, signedDescriptor);
}

/** Reads `image.json`. */
export function readImageDescriptor(path: string): ImageDescriptor {
  return readDescriptor(path, imageDescriptor);
}

/** Reads a file of JSON, of at most `max` bytes. Throws `artifact-invalid` with what is wrong with it. */
export function readDescriptor<T>(path: string, check: Check<T>, max = DESCRIPTOR_MAX): T {
  try {
    if (statSync(path).size > max) throw new Error(`larger than ${max} bytes`);
    return check(JSON.parse(readFileSync(path, "utf8")), "descriptor");
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new SandboxError("artifact-invalid", `${path}: ${problem}`, {
      errno: (cause as NodeJS.ErrnoException).code?.match(/^E[A-Z0-9]+$/)?.[0],
      remedy: "Install the package again, or build it again in a checkout of Lanebox",
      cause,
    });
  }
}
