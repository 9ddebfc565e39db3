// Writes what a part of scripts/bench has printed, and of which machine, into docs/benchmarks.md:
//
//   document-benchmark.mjs PART REPORT
//
// The section of that part is replaced; those of others stay, each with the machine of its own run.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";

const FILE = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));
const HEAD = `# Benchmarks

Written by \`scripts/bench --document\`. Each line is a median of one run, with the peer beside it where there is one: compare
the ratios, for the machines are noisy, and none is like another. Where a goal stands there and is missed, it is missed.
`;

const [part, report] = process.argv.slice(2);
if (part === undefined || report === undefined) throw new Error("usage: document-benchmark.mjs PART REPORT");
const lines = readFileSync(report, "utf8").split("\n").map((line) => line.trimEnd());
while (lines.at(-1) === "") lines.pop();
if (lines.length === 0) throw new Error(`the part ${part} printed nothing`);

const title = `## ${part}\n`;
const section = `${title}\n${machine()}\n\n\`\`\`text\n${lines.join("\n")}\n\`\`\`\n`;
const text = existsSync(FILE) ? readFileSync(FILE, "utf8") : "";
const sections = text.split(/^(?=## )/m).filter((old) => old.startsWith("## ") && !old.startsWith(title));
const all = [...sections.map((old) => old.trimEnd()), section.trimEnd()].sort();
writeFileSync(`${FILE}.new`, `${HEAD}\n${all.join("\n\n")}\n`);
renameSync(`${FILE}.new`, FILE);

function machine() {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  const system = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  const day = new Date().toISOString().slice(0, 10);
  return `${day}, commit ${said("git", "rev-parse", "--short=12", "HEAD")}; ${cpus().length} × ${first?.model ?? "unknown processor"}, ${memory} GiB; ${system}, Linux ${release().split("-")[0]}; Node ${process.versions.node}, ${said("rustc", "--version").split(" (")[0]}, ${said("qemu-system-x86_64", "--version").split(" (")[0]}.`;
}

function said(program, ...args) {
  try {
    return execFileSync(program, args, { encoding: "utf8" }).split("\n")[0] ?? "";
  } catch {
    return `no ${program}`;
  }
}
