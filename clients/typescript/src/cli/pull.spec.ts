// `lanebox image pull`, with a script in place of the image builder.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { helperPackageName, machineArchitecture } from "../machine.js";
import { rootfs } from "../rootfs.js";
import { type Setup, setUp } from "../testing/harness.js";

const main = fileURLToPath(new URL("./main.js", import.meta.url));
const earlier = process.env["XDG_DATA_HOME"];
let setup: Setup;

afterEach(() => {
  if (earlier === undefined) delete process.env["XDG_DATA_HOME"];
  else process.env["XDG_DATA_HOME"] = earlier;
  setup.remove();
});

/** Where pulled images are kept in this test. */
const kept = () => readdirSync(join(setup.directory, "data/lanebox/images")).sort();

/** Puts a script into the helper package; its arguments are `--oci REFERENCE --output FOLDER …`. */
function install(script: string, of: string = script): void {
  setup = setUp();
  process.env["XDG_DATA_HOME"] = join(setup.directory, "data");
  const folder = join(setup.directory, helperPackageName());
  const text = (body: string) => `#!/bin/sh\n${body}\n`;
  writeFileSync(join(folder, "image-builder"), text(script), { mode: 0o755 });
  const path = join(folder, "artifact.json");
  const descriptor = JSON.parse(readFileSync(path, "utf8"));
  const sha256 = createHash("sha256").update(text(of)).digest("hex");
  descriptor.files["image-builder"] = { sha256, sizeBytes: text(of).length };
  writeFileSync(path, JSON.stringify(descriptor));
}

function image(name: string, content: string): string {
  const digest = `sha256:${createHash("sha256").update(content).digest("hex")}`;
  const architecture = machineArchitecture();
  const fields = { schema: 1, name, id: "oci-1", architecture, format: "raw", path: "rootfs.raw" };
  const sizes = { sizeBytes: content.length, virtualSizeBytes: 4096, facts: [] };
  const text = JSON.stringify({ ...fields, ...sizes, digest });
  return `printf %s '${content}' > "$4/rootfs.raw"; printf %s '${text}' > "$4/image.json"`;
}

async function pull(...args: string[]) {
  const run = spawn(process.execPath, [main, "image", "pull", ...args], { stdio: "pipe" });
  let out = "";
  let err = "";
  run.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
  });
  run.stderr.setEncoding("utf8").on("data", (text) => {
    err += text;
    if (text.includes("interrupt me")) run.kill("SIGINT");
  });
  const [status] = await once(run, "close");
  return { status, out, err };
}

test("what is pulled is found by its name, and the last one counts", async () => {
  install(`echo "$@" >&2; ${image("a.example/team/tool:1", "one")}`);
  const options = ["--insecure-registry", "a.example:5000", "--max-layer-mib", "7"];
  const first = await pull(...options, "a.example/team/tool:1@sha256:00");
  assert.equal(first.status, 0, first.err);
  const [told] = first.err.split("\n");
  assert.match(
    told ?? "",
    /^--oci a\.example\/team\/tool:1@sha256:00 --output \S+ --insecure-registry a\.example:5000 --max-layer-mib 7$/,
  );
  assert.match(
    first.out,
    /^name {4}a\.example\/team\/tool:1\npath .*rootfs\.raw\ndigest {2}sha256:/,
  );
  assert.equal(rootfs.builtIn("a.example/team/tool:1").sizeBytes, 3);
  setup.remove();
  install(image("a.example/team/tool:1", "number two"));
  await pull("x");
  const second = await pull("--json", "x");
  assert.equal(second.status, 0, second.err);
  const found = rootfs.builtIn("a.example/team/tool:1");
  assert.deepEqual(rootfs.image(JSON.parse(pick(second.out))).digest, found.digest);
  assert.equal(kept().length, 2, kept().join(" "));
});

/** What `rootfs.image` takes of what `--json` prints. */
function pick(text: string): string {
  const { name, path, format, architecture, digest, sizeBytes, facts } = JSON.parse(text);
  return JSON.stringify({ name, path, format, architecture, digest, sizeBytes, facts });
}

test("a pull that fails or is interrupted leaves nothing", async () => {
  install('echo half > "$4/rootfs.raw"; echo "error: refused" >&2; exit 1');
  assert.deepEqual(await pull("x"), { status: 1, out: "", err: "error: refused\n" });
  assert.deepEqual(kept(), []);
  install('echo half > "$4/rootfs.raw"; echo "interrupt me" >&2; exec sleep 600');
  assert.deepEqual(await pull("x"), { status: 130, out: "", err: "interrupt me\n" });
  assert.deepEqual(kept(), []);
  install("exit 0");
  const liar = await pull("x");
  assert.equal(liar.status, 1);
  assert.match(liar.err, /image\.json/);
  assert.deepEqual(kept(), []);
});

test("what a killed pull has left goes after a day", async () => {
  install(image("a:1", "one"));
  const images = join(setup.directory, "data/lanebox/images");
  for (const name of [".store-killed", ".store-running"])
    mkdirSync(join(images, name), { recursive: true });
  utimesSync(join(images, ".store-killed"), 1, 1);
  assert.equal((await pull("x")).status, 0);
  utimesSync(
    join(images, kept().find((name) => /^\.store-[A-Za-z0-9]{6}$/.test(name)) ?? ""),
    1,
    1,
  );
  assert.equal((await pull("--name", "b:1", "x")).status, 0);
  assert.ok(kept().includes(".store-running") && !kept().includes(".store-killed"));
  assert.equal(rootfs.builtIn("a:1").sizeBytes, 3);
});

test("a builder that is missing or another is not run", async () => {
  install("echo run >&2", "echo other >&2");
  const other = await pull("x");
  assert.equal(other.status, 1);
  assert.match(other.err, /image-builder is not the file that its descriptor means/);
  setup.remove();
  setup = setUp();
  const missing = await pull("x");
  assert.equal(missing.status, 1);
  assert.match(missing.err, /There is no image-builder in .*\n.*scripts\/build/);
});

test("arguments that make no sense are refused", async () => {
  setup = setUp();
  for (const args of [[], ["a", "b"], ["--name", "a:latest", "x"], ["--max-image-mib", "0", "x"]]) {
    assert.equal((await pull(...args)).status, 2, args.join(" "));
  }
});
