// The packages of a release: what is in each, and its package.json. A package is put together in a
// folder of its own, with nothing in it that npm would leave out or run.
import {
  chmodSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { checkInitramfs, checkProgram } from "./checks.mjs";
import { checkout, client, fail, measure, output, readJson } from "./common.mjs";
import { cratesOf, licenceTexts } from "./crates.mjs";
import { helperSbom, imageSbom } from "./sbom.mjs";

const packaging = join(checkout, "packaging");
/** The images that are released, by their ids. */
export const IMAGES = ["busybox", "debian-12", "debian-12-agent"];
/** Short names of all packages, in the order they are made; `lanebox` has the manifest of the others. */
export const PACKAGES = [
  "linux-x64-gnu",
  "darwin-arm64",
  ...IMAGES.map((id) => `image-${id}`),
  "lanebox",
];

export function packageName(short) {
  return short === "lanebox" ? "lanebox" : `@lanebox/${short}`;
}

/**
 * Puts the package together in `folder`. Returns what the manifest shall say of its inputs.
 * `others` are the packages that were made before.
 */
export async function assemble(short, { artifacts, folder, version, others }) {
  const context = { artifacts, folder, version, name: packageName(short), short, others };
  mkdirSync(folder);
  if (short === "lanebox") return assembleClient(context);
  if (short === "darwin-arm64") return assembleDarwin(context);
  if (short.startsWith("image-")) return assembleImage(context);
  return assembleLinux(context);
}

const LINUX_FILES = ["sandbox-host", "vmlinux", "initramfs.cpio"];

async function assembleLinux(context) {
  const { folder, version, name, short } = context;
  const source = built(context, "artifact.json", "scripts/build");
  const descriptor = readJson(join(source, "artifact.json"));
  const files = Object.keys(descriptor.files);
  for (const file of LINUX_FILES) if (!files.includes(file)) fail(`${source} has no ${file}`);
  for (const file of files) checkDescribed(join(source, file), descriptor.files[file]);
  const programs = files.filter((file) => (statSync(join(source, file)).mode & 0o100) !== 0);
  if (!programs.includes("sandbox-host")) fail(`${source}/sandbox-host cannot be executed`);
  const glibc = programs.map((file) => [file, checkProgram(join(source, file), version).glibc]);
  checkInitramfs(join(source, "initramfs.cpio"));
  if (!existsSync(join(source, "inputs.json")))
    fail(`${source} has no inputs.json: run scripts/build`);
  const inputs = readJson(join(source, "inputs.json"));
  for (const file of [...files, "artifact.json", "inputs.json"]) put(context, source, file);
  for (const file of programs) chmodSync(join(folder, file), 0o755);
  put(context, join(packaging, short), "README.md");
  // A program has the name of its crate; sandbox-init is in the initramfs.
  const crates = cratesOf([...programs, "sandbox-init"]);
  const sbom = await helperSbom({ name, version, descriptor, inputs, programs, crates });
  write(context, "sbom.cdx.json", sbom);
  helperLicences(context, crates);
  writePackageJson(context, {
    description:
      "The helper of Lanebox for Linux on x86-64, with the guest's kernel and initramfs.",
    license: "SEE LICENSE IN licences/README.txt",
    os: ["linux"],
    cpu: ["x64"],
    libc: ["glibc"],
    preferUnplugged: true,
  });
  const { schema: _, ...rest } = inputs;
  return { ...rest, glibcNeeded: Object.fromEntries(glibc) };
}

function helperLicences(context, crates) {
  const { folder } = context;
  mkdirSync(join(folder, "licences"));
  const copies = {
    "README.txt": join(packaging, "linux-x64-gnu/licences.txt"),
    "GPL-2.0.txt": "/usr/share/common-licenses/GPL-2",
    "LGPL-2.1.txt": "/usr/share/common-licenses/LGPL-2.1",
    "e2fsprogs.txt": "/usr/share/doc/e2fsck-static/copyright",
    "glibc.txt": "/usr/share/doc/libc6-dev/copyright",
  };
  for (const [name, source] of Object.entries(copies)) {
    write(context, `licences/${name}`, readFileSync(source));
  }
  write(context, "licences/crates.txt", licenceTexts(crates));
  put(context, checkout, "LICENSE");
}

/**
 * The package for macOS, with the helper when one was built on such a machine. Without it only its
 * layout is there, and it is private, so that it cannot be published.
 */
function assembleDarwin(context) {
  const { artifacts, short, folder } = context;
  const source = join(artifacts, short);
  const complete = existsSync(join(source, "artifact.json"));
  if (complete) {
    const descriptor = readJson(join(source, "artifact.json"));
    for (const [file, described] of Object.entries(descriptor.files)) {
      checkDescribed(join(source, file), described);
      put(context, source, file);
    }
    put(context, source, "artifact.json");
    chmodSync(join(folder, "sandbox-host"), 0o755);
  }
  put(context, join(packaging, short), "README.md");
  put(context, join(packaging, short), "entitlements.plist");
  put(context, checkout, "LICENSE");
  writePackageJson(context, {
    description: "The helper of Lanebox for macOS on Apple silicon.",
    license: "Apache-2.0",
    os: ["darwin"],
    cpu: ["arm64"],
    preferUnplugged: true,
    ...(complete ? {} : { private: true }),
  });
  return { complete };
}

async function assembleImage(context) {
  const { name, version, short } = context;
  const id = short.slice("image-".length);
  const source = built(context, "image.json", `scripts/build-image ${id}`);
  const descriptor = readJson(join(source, "image.json"));
  const sha256 = descriptor.digest.slice("sha256:".length);
  checkDescribed(join(source, descriptor.path), { sha256, sizeBytes: descriptor.sizeBytes });
  const locks = ["packages.lock", "npm.lock"].filter((file) => existsSync(join(source, file)));
  if (locks[0] !== "packages.lock")
    fail(`${source} has no packages.lock: no SBOM can be made of it`);
  for (const file of [descriptor.path, "image.json", ...locks]) put(context, source, file);
  const npmLock = locks[1] && join(source, locks[1]);
  const packagesLock = join(source, "packages.lock");
  const sbom = await imageSbom({ name, version, descriptor, packagesLock, npmLock });
  write(context, "sbom.cdx.json", sbom);
  const readme = readFileSync(join(packaging, "image/README.md"), "utf8");
  write(context, "README.md", readme.replaceAll("NAME", descriptor.name).replace("image-…", short));
  put(context, checkout, "LICENSE");
  mkdirSync(join(context.folder, "licences"));
  write(context, "licences/README.txt", readFileSync(join(packaging, "image/licences.txt")));
  writePackageJson(context, {
    description: `The root filesystem image ${descriptor.name} for Lanebox.`,
    license: "SEE LICENSE IN licences/README.txt",
    preferUnplugged: true,
  });
  const lines = readFileSync(packagesLock, "utf8").split("\n");
  const debian = lines.filter((line) => line !== "" && !line.startsWith("#"));
  return {
    image: descriptor.name,
    digest: descriptor.digest,
    debianPackages: debian.map((line) => line.split(" ").slice(0, 3).join(" ")),
  };
}

function assembleClient(context) {
  const { folder, version, others } = context;
  if (!existsSync(join(client, "dist/index.js")))
    fail("clients/typescript is not built: npm run build");
  cpSync(join(client, "dist"), join(folder, "dist"), { recursive: true });
  for (const file of ["README.md", "CHANGELOG.md", "LICENSE"]) put(context, checkout, file);
  const source = readJson(join(client, "package.json"));
  const { type, exports, bin, dependencies } = source;
  const platforms = others.filter(
    ({ short, inputs }) => isPlatform(short) && inputs.complete !== false,
  );
  const images = IMAGES.map((id) => `@lanebox/image-${id}`);
  writePackageJson(context, {
    description: source.description,
    license: source.license,
    type,
    exports,
    bin,
    dependencies,
    optionalDependencies: Object.fromEntries(platforms.map(({ name }) => [name, version])),
    // Images are installed by whoever wants one. As optional peers they are linked to where this
    // package can see them, whatever the layout of node_modules.
    peerDependencies: Object.fromEntries(images.map((name) => [name, version])),
    peerDependenciesMeta: Object.fromEntries(images.map((name) => [name, { optional: true }])),
  });
  return {};
}

export function isPlatform(short) {
  return short !== "lanebox" && !short.startsWith("image-");
}

/** Writes package.json, with exactly the files that are there, and sets all modes. */
function writePackageJson({ folder, name, version, short }, fields) {
  const { repository, engines, license: _ } = readJson(join(client, "package.json"));
  const place = short === "lanebox" ? { directory: "clients/typescript" } : {};
  const content = {
    name,
    version,
    ...fields,
    repository: { type: repository.type, url: repository.url, ...place },
    engines,
    files: short === "lanebox" ? ["dist", "release.json", "CHANGELOG.md"] : listFiles(folder),
  };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(content, null, 2)}\n`);
}

/** Paths of all files in a folder, sorted. */
export function listFiles(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort();
}

/** The folder of an artifact that was built; fails with the command that builds it. */
function built({ artifacts, short }, descriptor, command) {
  const folder = join(artifacts, short);
  if (!existsSync(join(folder, descriptor))) fail(`${folder} is not there: run ${command}`);
  return realpathSync(folder);
}

function checkDescribed(path, { sha256, sizeBytes }) {
  const found = measure(path);
  if (found.sha256 !== sha256 || found.sizeBytes !== sizeBytes) {
    fail(`${path} is not what its descriptor in ${basename(dirname(path))} says`);
  }
}

function put({ folder }, source, name) {
  const file = join(folder, name);
  copyFileSync(join(source, name), file, constants.COPYFILE_FICLONE);
  chmodSync(file, 0o644);
}

function write({ folder }, name, content) {
  writeFileSync(join(folder, name), content, { mode: 0o644 });
}

/** Versions of the workspace, which must agree. */
export function workspaceVersion() {
  const { version } = readJson(join(client, "package.json"));
  const cargo = readFileSync(join(checkout, "Cargo.toml"), "utf8");
  const crates = /^\[workspace\.package\]\nversion = "(.*)"$/m.exec(cargo)?.[1];
  if (crates !== version) fail(`Cargo.toml has version ${crates}, clients/typescript ${version}`);
  return version;
}

/** The commit of the sources, and whether the checkout has changes beside it. */
export function source() {
  const git = (...args) => output("git", args, { cwd: checkout }).trim();
  const { repository } = readJson(join(client, "package.json"));
  return {
    repository: repository.url,
    commit: git("rev-parse", "HEAD"),
    modified: git("status", "--porcelain") !== "",
  };
}

/** Size of a file in MiB, for people. */
export function mebibytes(path) {
  return `${(statSync(path).size / 2 ** 20).toFixed(1)} MiB`;
}
