// The crates that are in a program of ours: which, how they depend on each other, and their licences.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkout, output } from "./common.mjs";

const TARGET = "x86_64-unknown-linux-gnu";

/**
 * The crates of `programs`, ours among them: `{ name, version, license, directory, checksum, scope,
 * dependencies, programs }`. What is only run to build the rest, procedural macros among it, has the
 * scope "build".
 */
export function cratesOf(programs) {
  const metadata = JSON.parse(
    output("cargo", ["metadata", "--locked", "--format-version=1", `--filter-platform=${TARGET}`], {
      cwd: checkout,
    }),
  );
  const runtime = new Map(
    programs.map((program) => [program, tree(program, "normal,no-proc-macro")]),
  );
  const all = new Set(programs.flatMap((program) => [...tree(program, "normal,build")]));
  const checksums = lockedChecksums();
  const ids = new Map(metadata.packages.map((crate) => [crate.id, key(crate)]));
  const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]));
  const crates = metadata.packages
    .filter((crate) => all.has(key(crate)))
    .map((crate) => ({
      name: crate.name,
      version: crate.version,
      license: crate.license,
      directory: dirname(crate.manifest_path),
      ours: crate.source === null,
      checksum: checksums.get(key(crate)),
      scope: programs.some((program) => runtime.get(program).has(key(crate))) ? "runtime" : "build",
      programs: programs.filter((program) => runtime.get(program).has(key(crate))),
      dependencies: nodes
        .get(crate.id)
        .deps.filter(({ dep_kinds: kinds }) => kinds.some(({ kind }) => kind !== "dev"))
        .map(({ pkg }) => ids.get(pkg))
        .filter((dependency) => all.has(dependency))
        .sort(),
    }));
  return crates.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

export function key({ name, version }) {
  return `${name} ${version}`;
}

/** What cargo builds for a program along these edges, with the features that it has there. */
function tree(program, edges) {
  const options = ["--locked", "--prefix=none", "--format={p}", `--target=${TARGET}`];
  const text = output("cargo", ["tree", "-p", program, `--edges=${edges}`, ...options], {
    cwd: checkout,
  });
  const lines = text.split("\n").filter((line) => line !== "");
  return new Set(lines.map((line) => line.split(" ").slice(0, 2).join(" ").replace(" v", " ")));
}

function lockedChecksums() {
  const lock = readFileSync(join(checkout, "Cargo.lock"), "utf8");
  const field = (block, name) => new RegExp(`^${name} = "(.*)"$`, "m").exec(block)?.[1];
  const blocks = lock.split("[[package]]\n").slice(1);
  return new Map(
    blocks.map((block) => [
      `${field(block, "name")} ${field(block, "version")}`,
      field(block, "checksum"),
    ]),
  );
}

const LICENCE_FILE = /^(licen[cs]e|copying|copyright|notice|unlicense)/i;

/** The licence texts of crates of others, each text once, with the crates that it is of. */
export function licenceTexts(crates) {
  const texts = new Map();
  const others = crates.filter(({ ours, scope }) => !ours && scope === "runtime");
  for (const crate of others) {
    for (const name of licenceFiles(crate.directory)) {
      const text = readFileSync(name, "utf8").replaceAll("\r\n", "\n").trim();
      texts.set(text, [...(texts.get(text) ?? []), key(crate)]);
    }
  }
  const list = others.map((crate) => `${key(crate)}: ${crate.license ?? "see below"}`);
  const parts = [...texts].map(([text, of]) => `${"=".repeat(80)}\n${of.join(", ")}\n\n${text}\n`);
  return `The crates in the programs, and the licences that they name:\n\n${list.join("\n")}\n\n${parts.join("\n")}`;
}

function licenceFiles(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name))
    .map((entry) => join(directory, entry.name))
    .sort();
}
