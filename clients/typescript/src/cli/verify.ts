// `lanebox doctor --verify`: what is installed, compared with the manifest of the release.
import type { ReleaseManifest } from "../release-manifest.js";
import {
  openManifest,
  ownManifest,
  type PackageFinding,
  verifyRelease,
} from "../verify-release.js";
import { write } from "./output.js";

/** What `--json` prints. */
interface Report {
  /** Whether all that is installed is as the manifest says, and nothing that every boot needs is missing. */
  readonly ok: boolean;
  readonly manifest: string;
  readonly version: string;
  readonly source: ReleaseManifest["source"];
  readonly packages: readonly PackageFinding[];
}

/** Prints the report. Exit status 0 when everything is as the manifest says, else 1. */
export async function verifyCommand(options: {
  readonly json: boolean;
  readonly manifest: string | undefined;
}): Promise<number> {
  const manifest = openManifest(options.manifest);
  const packages = await verifyRelease(manifest);
  const report: Report = {
    ok: packages.every(({ status }) => status === "ok" || status === "not-installed"),
    manifest: options.manifest ?? ownManifest,
    version: manifest.version,
    source: manifest.source,
    packages,
  };
  await write(process.stdout, options.json ? `${JSON.stringify(report, null, 2)}\n` : text(report));
  return report.ok ? 0 : 1;
}

const WIDTH = "not-installed".length;

function text({ ok, manifest, version, source, packages }: Report): string {
  const modified = source.modified ? ", with changes that are not in it" : "";
  const lines = [
    `lanebox ${version}, commit ${source.commit}${modified}`,
    `manifest ${manifest}`,
    ...packages.flatMap(({ name, status, directory, filesOk, wrong }) => [
      `${status.padEnd(WIDTH)}  ${name}${directory === null ? "" : `: ${filesOk} files ok in ${directory}`}`,
      ...wrong.map(({ path, status, detail }) => `  ${status.padEnd(WIDTH)}  ${path}: ${detail}`),
    ]),
    ok
      ? "What is installed is what the manifest says."
      : "What is installed is not what the manifest says: remove node_modules and install again.",
  ];
  return `${lines.join("\n")}\n`;
}
