// `lanebox doctor`: what the helper's probe finds here, which is what `boot` decides by, and what is
// installed.
import type { ArtifactFile } from "../artifact-digest.js";
import { findHelper, findImages } from "../artifacts.js";
import { kebab } from "../error-mapping.js";
import { SandboxError } from "../errors.js";
import {
  EngineKind,
  FindingCode,
  IsolationKind,
  type ProbeResponse,
} from "../gen/lanebox/v1/sandbox_pb.js";
import { NO_GRANTS } from "../grants.js";
import { Lane } from "../lane.js";
import { helperPackageName } from "../machine.js";
import { defaultMinimum, type IsolationMinimum } from "../options.js";
import { write } from "./output.js";

/** What `--json` prints. */
interface Report {
  readonly canBoot: boolean;
  readonly minimumIsolation: IsolationMinimum;
  readonly versions: {
    readonly lanebox: string;
    readonly node: string;
    readonly host: string | null;
  };
  readonly helper: { readonly package: string; readonly directory: string | null };
  readonly engines: readonly {
    readonly engine: string;
    readonly isolation: string;
    readonly code: string;
    readonly detail: string;
    readonly remedy: string;
  }[];
  /** What confines the helper, and what this host does not have for it. */
  readonly confinement: { readonly detail: string; readonly missing: readonly string[] } | null;
  readonly images: readonly { readonly name: string; readonly directory: string }[];
  /** What stands in the way of a boot, or is wrong beside it. */
  readonly problems: readonly { readonly message: string; readonly remedy: string | null }[];
}

/** Prints the report. Exit status 0 when a VM can be booted under the chosen minimum, else 1. */
export async function doctor(
  options: { readonly json: boolean; readonly isolation: IsolationMinimum | undefined },
  version: string,
): Promise<number> {
  const report = await examine(options.isolation ?? defaultMinimum(), version);
  await write(process.stdout, options.json ? `${JSON.stringify(report, null, 2)}\n` : text(report));
  return report.canBoot ? 0 : 1;
}

async function examine(minimum: IsolationMinimum, version: string): Promise<Report> {
  const problems: Report["problems"][number][] = [];
  const attempt = async <T>(action: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      problems.push({ message: error.message, remedy: error.remedy ?? null });
      return undefined;
    }
  };
  const helper = await attempt(findHelper);
  const found = helper && (await attempt(() => probe(helper.host)));
  const engines = found?.engines.map(engineReport) ?? [];
  const usable = engines.filter(
    (finding) => finding.code === "ok" && meets(finding.isolation, minimum),
  );
  if (found !== undefined && usable.length === 0) problems.push(isolationProblem(minimum, engines));
  const listed = await attempt(findImages);
  const images = (listed?.images ?? []).map(({ directory, descriptor }) => ({
    name: descriptor.name,
    directory,
  }));
  if (listed !== undefined && images.length === 0) {
    const remedy =
      "Run: npm install @lanebox/image-debian-12, or in a checkout of Lanebox: scripts/build-image debian-12";
    problems.push({ message: "No image is installed", remedy });
  }
  for (const { error } of listed?.problems ?? [])
    problems.push({ message: error.message, remedy: error.remedy ?? null });
  return {
    canBoot: usable.length > 0 && images.length > 0,
    minimumIsolation: minimum,
    versions: { lanebox: version, node: process.versions.node, host: found?.hostVersion ?? null },
    helper: { package: helperPackageName(), directory: helper?.directory ?? null },
    engines,
    confinement: found ? { detail: found.confinement, missing: found.confinementMissing } : null,
    images,
    problems,
  };
}

async function probe(helper: ArtifactFile): Promise<ProbeResponse> {
  const lane = await Lane.start({ helper, grants: NO_GRANTS });
  try {
    return await lane.probe();
  } finally {
    await lane.abandon();
  }
}

function engineReport(finding: ProbeResponse["engines"][number]): Report["engines"][number] {
  return {
    engine: kebab(EngineKind, finding.engine) ?? "unknown",
    isolation: kebab(IsolationKind, finding.isolation) ?? "unknown",
    code: kebab(FindingCode, finding.code) ?? "unknown",
    detail: finding.detail,
    remedy: finding.remedy,
  };
}

function meets(isolation: string, minimum: IsolationMinimum): boolean {
  return isolation === "hardware" || (isolation === "emulated" && minimum === "emulated");
}

function isolationProblem(
  minimum: IsolationMinimum,
  engines: Report["engines"],
): Report["problems"][number] {
  const emulated = engines.some(({ code, isolation }) => code === "ok" && isolation === "emulated");
  const accept =
    minimum === "hardware" && emulated
      ? 'Software emulation works here, and is weaker and slower; to accept it: isolation: { minimum: "emulated" }, --isolation emulated, or LANEBOX_MIN_ISOLATION=emulated'
      : undefined;
  const wanted = engines
    .filter(({ isolation }) => meets(isolation, minimum))
    .map(({ remedy }) => remedy);
  const remedies = [...wanted, accept].filter((remedy) => remedy !== undefined && remedy !== "");
  return {
    message: `No engine gives the isolation that is asked for (${minimum})`,
    remedy: remedies.length === 0 ? null : remedies.join("\n"),
  };
}

function text(report: Report): string {
  const { versions, helper, engines, confinement, images, problems } = report;
  const host = versions.host === null ? "" : `, sandbox-host ${versions.host}`;
  const lines = [
    `lanebox ${versions.lanebox}, node ${versions.node}${host}`,
    `helper   ${helper.package}: ${helper.directory ?? "not installed"}`,
    ...engines.map(
      ({ engine, isolation, code, detail }) =>
        `engine   ${engine} (${isolation}): ${code}: ${detail}`,
    ),
    ...(confinement === null ? [] : [`walls    ${confinement.detail}`]),
    ...(confinement?.missing ?? []).map((missing) => `         ${missing}`),
    ...images.map(({ name, directory }) => `image    ${name}: ${directory}`),
    ...problems.flatMap(({ message, remedy }) => [
      `problem  ${message}`,
      ...(remedy ?? "").split("\n").flatMap((line) => (line === "" ? [] : [`         ${line}`])),
    ]),
    report.canBoot
      ? `A VM can be booted here (minimum isolation: ${report.minimumIsolation}).`
      : `No VM can be booted here (minimum isolation: ${report.minimumIsolation}).`,
  ];
  return `${lines.join("\n")}\n`;
}
