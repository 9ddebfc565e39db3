// Makes the packages of a release, as tarballs by npm's own `pack`, and their manifest, release.json.
//
//   artifacts/, clients/typescript/dist ──► checks ──► a folder a package ──► npm pack ──► DIR/*.tgz
//                                                        └── digests of all files ──► DIR/release.json
//
// The same inputs give the same bytes: nothing has a time, an owner or a path of this machine in it.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { checkout, fail, measure, output, ReleaseError, readJson } from "./common.mjs";
import {
  assemble,
  listFiles,
  mebibytes,
  PACKAGES,
  packageName,
  source,
  workspaceVersion,
} from "./packages.mjs";

const USAGE = `usage: npm run release:pack -- [OPTION…]

  --output DIR           where the tarballs and release.json go   (default: dist/release of the checkout)
  --only NAME[,NAME…]    make only these: ${PACKAGES.join(", ")}
  --artifacts DIR        take what scripts/build made from here   (default: artifacts/ of the checkout)
  --check-reproducible   make everything twice, and compare
`;

function parse(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      output: { type: "string", default: join(checkout, "dist/release") },
      only: { type: "string" },
      artifacts: { type: "string", default: join(checkout, "artifacts") },
      "check-reproducible": { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const only = values.only?.split(",") ?? PACKAGES;
  for (const short of only) {
    if (!PACKAGES.includes(short))
      fail(`--only: there is no package ${short}: ${PACKAGES.join(", ")}`);
  }
  return {
    output: resolve(values.output),
    artifacts: resolve(values.artifacts),
    packages: PACKAGES.filter((short) => only.includes(short)),
    check: values["check-reproducible"],
    help: values.help,
  };
}

async function main() {
  const options = parse(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(USAGE);
    return;
  }
  mkdirSync(options.output, { recursive: true });
  const first = await makeAll(options);
  if (options.check) {
    const second = await makeAll(options);
    compare(first.directory, second.directory);
    rmSync(second.directory, { recursive: true });
    say("two runs made the same bytes");
  }
  for (const file of listFiles(first.directory)) {
    renameSync(join(first.directory, file), join(options.output, file));
    process.stdout.write(
      `${join(options.output, file)} (${mebibytes(join(options.output, file))})\n`,
    );
  }
  rmSync(first.directory, { recursive: true });
}

/** Makes the packages in a new folder beside where they go. */
async function makeAll({ output: parent, artifacts, packages }) {
  const directory = mkdtempSync(join(parent, ".packing-"));
  const work = mkdtempSync(join(parent, ".staging-"));
  const version = workspaceVersion();
  const made = [];
  try {
    for (const short of packages) {
      say(`${packageName(short)} ${version}`);
      const folder = join(work, short);
      const inputs = await assemble(short, { artifacts, folder, version, others: made });
      const one = { short, name: packageName(short), version, inputs };
      if (short === "lanebox")
        writeManifest(folder, version, [...made, { ...one, ...listed(folder) }]);
      made.push({ ...one, ...listed(folder), tarball: pack(folder, directory) });
      rmSync(folder, { recursive: true });
    }
    writeManifest(directory, version, made);
    return { directory };
  } catch (error) {
    rmSync(directory, { recursive: true });
    throw error;
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** The files of a package as the manifest has them; it cannot have itself. */
function listed(folder) {
  const names = listFiles(folder).filter((name) => name !== "release.json");
  return { files: Object.fromEntries(names.map((name) => [name, measure(join(folder, name))])) };
}

function writeManifest(folder, version, packages) {
  const platforms = packages.filter(({ inputs }) => Object.keys(inputs).length > 0);
  const manifest = {
    schema: 1,
    version,
    source: source(),
    inputs: {
      node: process.versions.node,
      npm: output("npm", ["--version"]).trim(),
      packages: Object.fromEntries(platforms.map(({ name, inputs }) => [name, inputs])),
    },
    packages: packages.map(({ name, version, tarball, files }) => ({
      name,
      version,
      tarball,
      files,
    })),
  };
  writeFileSync(join(folder, "release.json"), `${JSON.stringify(manifest, null, 1)}\n`);
}

/** Has npm pack a folder; fails when that takes in other files than those that are there. */
function pack(folder, directory) {
  const options = ["--json", "--ignore-scripts", `--pack-destination=${directory}`];
  const [result] = JSON.parse(output("npm", ["pack", ...options], { cwd: folder }));
  const { scripts } = readJson(join(folder, "package.json"));
  if (scripts !== undefined) fail(`${folder}: package.json has scripts`);
  const wanted = listFiles(folder);
  const packed = result.files.map(({ path }) => path).sort();
  const difference = [
    ...wanted.filter((path) => !packed.includes(path)).map((path) => `${path} was left out`),
    ...packed.filter((path) => !wanted.includes(path)).map((path) => `${path} is not of it`),
  ];
  if (difference.length > 0) fail(`npm pack of ${folder}: ${difference.join(", ")}`);
  return { file: result.filename, ...measure(join(directory, result.filename)) };
}

function compare(first, second) {
  const names = new Set([...listFiles(first), ...listFiles(second)]);
  const digest = (folder, name) =>
    existsSync(join(folder, name)) ? measure(join(folder, name)).sha256 : "nothing";
  const different = [...names].filter((name) => digest(first, name) !== digest(second, name));
  if (different.length > 0) {
    fail(`not reproducible: ${different.join(", ")}; see ${first} and ${second}`);
  }
}

function say(text) {
  process.stderr.write(`release: ${text}\n`);
}

try {
  await main();
} catch (error) {
  const expected = error instanceof ReleaseError || error?.code?.startsWith("ERR_PARSE_ARGS");
  if (!expected) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}
