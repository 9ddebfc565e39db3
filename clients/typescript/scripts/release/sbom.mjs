// Software bills of materials in CycloneDX 1.6: what the helper package and the images are made of.
// They have no time and no serial number in them: the same inputs give the same bytes.
import { readFileSync } from "node:fs";
import { Enums, Models, Serialize, Spec, Validation } from "@cyclonedx/cyclonedx-library";
import { fail, lockLines } from "./common.mjs";
import { key } from "./crates.mjs";

const { ComponentType, ComponentScope, HashAlgorithm } = Enums;

/**
 * The SBOM of the Linux helper package, from its descriptor, its inputs, the names of its programs and
 * the crates that are in them.
 */
export async function helperSbom({ name, version, descriptor, inputs, programs, crates }) {
  const sha256 = (file) => hash(HashAlgorithm["SHA-256"], descriptor.files[file].sha256);
  const program = (short, extra) =>
    component(ComponentType.Application, short, version, {
      purl: `pkg:generic/lanebox/${short}@${version}`,
      licenses: licence("Apache-2.0"),
      ...extra,
    });
  const host = programs.map((short) => program(short, { hashes: sha256(short) }));
  const init = program("sandbox-init", {
    description: "/init of the initramfs, linked statically",
  });
  const rustVersion = inputs.rustc.split(" ")[1];
  const rust = component(ComponentType.Library, "rust-std", rustVersion, {
    purl: `pkg:generic/rust-std@${rustVersion}`,
    licenses: licence("MIT OR Apache-2.0"),
  });
  const debian = (type, packageName, extra = {}, architecture = "amd64") =>
    debianComponent(type, [packageName, inputs.debianPackages[packageName], architecture], extra);
  const glibc = debian(ComponentType.Library, "libc6-dev", {
    description: "glibc, in sandbox-init",
  });
  const e2fsck = debian(ComponentType.Application, "e2fsck-static", {
    description: "/e2fsck of the initramfs",
  });
  const vmlinux = {
    description: `vmlinux, Linux ${inputs.kernel} with the patches in images/kernel`,
    licenses: licence("GPL-2.0-only WITH Linux-syscall-note"),
    hashes: sha256("vmlinux"),
  };
  const kernel = debian(ComponentType.OperatingSystem, "linux-source-6.1", vmlinux, "all");
  const initramfs = component(ComponentType.File, "initramfs.cpio", version, {
    purl: `pkg:generic/lanebox/initramfs@${version}`,
    hashes: sha256("initramfs.cpio"),
  });
  const root = component(ComponentType.Application, name, version, {
    purl: npmPurl(name, version),
  });
  const libraries = crateComponents([...host, init], crates);
  depends(root, [...host, kernel, initramfs]);
  depends(initramfs, [init, e2fsck]);
  for (const one of host) depends(one, [rust]);
  depends(init, [rust, glibc]);
  const own = [...host, init, rust, glibc, e2fsck, kernel, initramfs];
  return serialize(root, [...own, ...libraries]);
}

/** Components of the crates that are no programs; these stand for their own, and depend on the others. */
function crateComponents(programs, crates) {
  const components = new Map(
    crates.map((crate) => [
      key(crate),
      programs.find(({ name }) => name === crate.name) ?? crateComponent(crate),
    ]),
  );
  for (const crate of crates) {
    depends(
      components.get(key(crate)),
      crate.dependencies.map((dependency) => components.get(dependency)),
    );
  }
  return [...components.values()].filter((one) => !programs.includes(one));
}

function crateComponent(crate) {
  const { name, version, license, checksum, ours } = crate;
  return component(ComponentType.Library, name, version, {
    purl: ours ? `pkg:generic/lanebox/${name}@${version}` : `pkg:cargo/${name}@${version}`,
    scope: crate.scope === "runtime" ? ComponentScope.Required : ComponentScope.Excluded,
    ...(license === null ? {} : { licenses: licence(license) }),
    ...(checksum === undefined ? {} : { hashes: hash(HashAlgorithm["SHA-256"], checksum) }),
  });
}

/** The SBOM of an image package, from the image's descriptor and the locks it was made from. */
export async function imageSbom({ name, version, descriptor, packagesLock, npmLock }) {
  const root = component(ComponentType.Container, name, version, {
    purl: npmPurl(name, version),
    description: `The image ${descriptor.name}`,
    hashes: hash(HashAlgorithm["SHA-256"], descriptor.digest.slice("sha256:".length)),
  });
  const packages = lockLines(readFileSync(packagesLock, "utf8")).map((fields) =>
    debianComponent(ComponentType.Library, fields, {
      hashes: hash(HashAlgorithm["SHA-256"], fields[3]),
    }),
  );
  const fromNpm = npmLock === undefined ? [] : lockLines(readFileSync(npmLock, "utf8"));
  const others = fromNpm.map(([packageName, packageVersion, folder, integrity]) =>
    component(ComponentType.Library, packageName, packageVersion, {
      purl: npmPurl(packageName, packageVersion),
      description: `in ${folder}`,
      hashes: hash(
        HashAlgorithm["SHA-512"],
        Buffer.from(integrity.slice("sha512-".length), "base64").toString("hex"),
      ),
    }),
  );
  depends(root, [...packages, ...others]);
  return serialize(root, [...packages, ...others]);
}

/** A package of Debian 12; its hash is that of its .deb file. */
function debianComponent(type, [name, version, architecture], extra) {
  if (version === undefined) fail(`the version of the Debian package ${name} is not known`);
  const at = encodeURIComponent(version);
  return component(type, name, version, {
    purl: `pkg:deb/debian/${encodeURIComponent(name)}@${at}?arch=${architecture}&distro=bookworm`,
    ...extra,
  });
}

function npmPurl(name, version) {
  return `pkg:npm/${name.replace("@", "%40")}@${encodeURIComponent(version)}`;
}

function component(type, name, version, { purl, ...rest }) {
  return new Models.Component(type, name, { bomRef: purl, version, purl, ...rest });
}

function hash(algorithm, hex) {
  return new Models.HashDictionary([[algorithm, hex]]);
}

/** A crate's licence; the old way of writing "or" is made the standard one. */
function licence(expression) {
  const spdx = expression.replaceAll(/\s*\/\s*/g, " OR ");
  return new Models.LicenseRepository([new Models.LicenseExpression(spdx)]);
}

function depends(one, others) {
  for (const other of others) one.dependencies.add(other.bomRef);
}

async function serialize(root, components) {
  const bom = new Models.Bom({
    metadata: new Models.Metadata({ component: root }),
    components: new Models.ComponentRepository(components),
  });
  const normalizers = new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6);
  const text = new Serialize.JsonSerializer(normalizers).serialize(bom, {
    sortLists: true,
    space: 2,
  });
  const problem = await new Validation.JsonStrictValidator(Spec.Spec1dot6.version).validate(text);
  if (problem !== null) fail(`the SBOM of ${root.name} is not valid: ${JSON.stringify(problem)}`);
  return `${text}\n`;
}
