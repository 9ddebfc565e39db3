// The manifest of a release, `release.json`: every file of every package of it. scripts/release-pack
// writes it; the package `lanebox` holds it, without what can only be known once that is packed:
// its own tarball.
import { readDescriptor } from "./artifact-descriptor.js";
import {
  type Check,
  integer,
  invalid,
  list,
  matching,
  nonEmptyText,
  object,
  optional,
  record,
} from "./validate.js";

/** Bytes that a manifest may have. */
const MANIFEST_MAX = 16 * 1024 * 1024;

const content = {
  sha256: matching(/^[0-9a-f]{64}$/, "64 hexadecimal digits"),
  sizeBytes: integer(0, Number.MAX_SAFE_INTEGER),
};
const fileContent = object(content);

/** Files by their paths in a package, which cannot lead out of it. */
const files: Check<ReadonlyMap<string, ReturnType<typeof fileContent>>> = (value, path) => {
  const entries = Object.entries(record(value, path)).map(([name, given]) => {
    const parts = name.split("/");
    if (parts.some((part) => part === "" || part === "." || part === "..") || name.includes("\0")) {
      throw invalid(path, "paths inside of the package", name);
    }
    return [name, fileContent(given, `${path}[${JSON.stringify(name)}]`)] as const;
  });
  return new Map(entries);
};

const manifest = object({
  schema: (value: unknown, path: string) => {
    if (value !== 1) throw invalid(path, "1", value);
    return value;
  },
  version: nonEmptyText,
  /** Where the sources are, and of which commit the release is. */
  source: object({
    repository: nonEmptyText,
    commit: nonEmptyText,
    modified: (value: unknown, path: string) => {
      if (typeof value !== "boolean") throw invalid(path, "true or false", value);
      return value;
    },
  }),
  /** What it was made of and with; for people and for building it again. */
  inputs: record,
  packages: list(
    object({
      name: matching(
        /^(@lanebox\/[a-z0-9][a-z0-9.-]*|lanebox)$/,
        'the name of a package, "lanebox" or "@lanebox/…"',
      ),
      version: nonEmptyText,
      tarball: optional(object({ file: nonEmptyText, ...content })),
      files,
    }),
  ),
});

/** What `release.json` says. */
export type ReleaseManifest = ReturnType<typeof manifest>;

/** One package of a release. */
export type ReleasePackage = ReleaseManifest["packages"][number];

/** Reads a manifest. Throws `artifact-invalid`. */
export function readManifest(path: string): ReleaseManifest {
  return readDescriptor(path, manifest, MANIFEST_MAX);
}
