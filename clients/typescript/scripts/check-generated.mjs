// Fails when src/gen is not what `npm run generate` makes of proto/.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const fresh = mkdtempSync(join(tmpdir(), "lanebox-gen-"));
try {
  const protocol = ["../../proto", "--path", "../../proto/lanebox/v1"];
  execFileSync("buf", ["generate", ...protocol, "--output", fresh], { stdio: "inherit" });
  const stale = difference(contents("src/gen"), contents(join(fresh, "src/gen")));
  if (stale.length > 0) {
    console.error(`src/gen is not up to date; run: npm run generate\n  ${stale.join("\n  ")}`);
    process.exitCode = 1;
  }
} finally {
  rmSync(fresh, { recursive: true });
}

function contents(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    files.map((entry) => {
      const path = join(entry.parentPath ?? entry.path, entry.name);
      return [path.slice(folder.length + 1), readFileSync(path, "utf8")];
    }),
  );
}

function difference(committed, generated) {
  const names = new Set([...committed.keys(), ...generated.keys()]);
  return [...names].filter((name) => committed.get(name) !== generated.get(name)).sort();
}
