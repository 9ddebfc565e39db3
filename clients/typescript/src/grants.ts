// What a helper is allowed to use, said when it is started: it confines itself to that before it reads
// a request. A request that uses anything else is refused.
import type { RootDisk } from "./gen/lanebox/v1/sandbox_pb.js";

/** Whether a helper confines itself. */
export type Confinement = "on" | "off";

/** What one helper may use. */
export interface Grants {
  /** Absolute paths, each with how it is used, such as `read:/path`. */
  readonly paths: readonly string[];
  /** The host's network. */
  readonly network: boolean;
}

/** Nothing: for a probe. */
export const NO_GRANTS: Grants = { paths: [], network: false };

/** The files of a disk. */
export function diskGrants({ path, overlay }: RootDisk): readonly string[] {
  const store = overlay?.store;
  return [`read:${path}`, ...(store?.case === "file" ? [`create:${store.value.path}`] : [])];
}

/** The command line of a helper. */
export function helperArguments(
  { paths, network }: Grants,
  confinement: Confinement,
  cgroup: string | undefined,
  debugSocket: string | undefined,
): string[] {
  return [
    ...paths.flatMap((path) => ["--grant", path]),
    ...(network ? ["--network"] : []),
    ...(confinement === "off" ? ["--confinement", "off"] : []),
    ...(cgroup === undefined ? [] : ["--cgroup", cgroup]),
    ...(debugSocket === undefined ? [] : ["--debug-socket", debugSocket]),
  ];
}
