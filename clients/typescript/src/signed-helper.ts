// The helper that `lanebox setup-macos` has signed. Hypervisor.framework only serves programs that
// are signed with an entitlement, and signing changes the program. So the package's own helper stays
// as it was released, to be checked against its digest, and a signed copy lies beside it:
//
//   darwin-arm64/sandbox-host            as released
//   darwin-arm64/entitlements.plist
//   darwin-arm64/signed/sandbox-host     its signed copy
//   darwin-arm64/signed/signed.json      {"schema":1,"from":"sha256:…","sha256":"…","sizeBytes":n}
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readSignedDescriptor } from "./artifact-descriptor.js";
import type { ArtifactFile } from "./artifact-digest.js";
import { refuseWritableByOthers } from "./artifact-safety.js";
import { SandboxError } from "./errors.js";

/** Where the signed copy and its descriptor are, in the folder of a helper package. */
export function signedPaths(directory: string) {
  const folder = join(directory, "signed");
  return {
    folder,
    host: join(folder, "sandbox-host"),
    descriptor: join(folder, "signed.json"),
  };
}

/**
 * The signed copy of `host`; undefined when there is none. Throws `artifact-invalid` for a copy of
 * another helper, and `artifact-unsafe`.
 */
export function signedHelper(directory: string, host: ArtifactFile): ArtifactFile | undefined {
  const paths = signedPaths(directory);
  if (!existsSync(paths.descriptor)) return undefined;
  refuseWritableByOthers(paths.descriptor);
  refuseWritableByOthers(paths.host);
  const { from, sha256, sizeBytes } = readSignedDescriptor(paths.descriptor);
  if (from !== host.digest) {
    throw new SandboxError(
      "artifact-invalid",
      `${paths.host} is a signed copy of another helper than ${host.path}`,
      { remedy: "Run: npx lanebox setup-macos" },
    );
  }
  return { path: paths.host, digest: `sha256:${sha256}`, sizeBytes };
}
