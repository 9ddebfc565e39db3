/** Sizes of the packages, and how long it takes from their tarballs to a first command in a VM. */

import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { artifacts } from "../support/artifacts.js";
import { BUSYBOX, DEBIAN } from "../support/lane.js";
import { newFolder, Project, packDependencies, packRelease } from "../support/project.js";
import { median, report } from "./statistics.js";

const ROUNDS = 3;
const IMAGES = ["image-busybox", "image-debian-12", "image-debian-12-agent"];

const FIRST_EXEC = `
import { defineSandbox, rootfs } from "lanebox";
const image = rootfs.builtIn(IMAGE);
const vm = await defineSandbox({ rootfs: image, isolation: { minimum: "emulated" } }).boot();
await vm.exec("true");
process.stdout.write("ran");
await vm.close();
`;

export async function benchPackages(): Promise<void> {
  const packed = newFolder();
  const dependencies = newFolder();
  try {
    const images = IMAGES.filter((name) => existsSync(join(artifacts, name, "image.json")));
    const tarballs = await packRelease(packed, ["linux-x64-gnu", ...images, "lanebox"]);
    reportSizes(packed, tarballs);
    const needed = [...tarballs, ...(await packDependencies(dependencies))];
    for (const [image, short] of [
      [BUSYBOX, "image-busybox"],
      [DEBIAN, "image-debian-12"],
    ] as const) {
      const others = IMAGES.filter((name) => name !== short).map((name) => `lanebox-${name}-0.`);
      const files = needed.filter(
        (file) => !others.some((other) => basename(file).startsWith(other)),
      );
      await benchInstall(image, files);
    }
  } finally {
    for (const folder of [packed, dependencies]) rmSync(folder, { recursive: true });
  }
}

function reportSizes(packed: string, tarballs: readonly string[]): void {
  const { packages } = JSON.parse(readFileSync(join(packed, "release.json"), "utf8")) as {
    packages: {
      name: string;
      tarball: { file: string };
      files: Record<string, { sizeBytes: number }>;
    }[];
  };
  for (const { name, tarball, files } of packages) {
    const file = tarballs.find((path) => basename(path) === tarball.file);
    if (file === undefined) throw new Error(`${tarball.file} was not made`);
    const unpacked = Object.values(files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    report(`${name}, tarball`, mebibytes(statSync(file).size), `unpacked ${mebibytes(unpacked)}`);
  }
}

/** From an empty project and an empty npm cache; what is installed lies on this disk. */
async function benchInstall(image: string, files: readonly string[]): Promise<void> {
  const installs: number[] = [];
  const runs: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const project = new Project();
    try {
      const began = performance.now();
      await project.install(files);
      const installed = performance.now();
      await project.node(FIRST_EXEC.replace("IMAGE", JSON.stringify(image)));
      installs.push(installed - began);
      runs.push(performance.now() - installed);
    } finally {
      project.remove();
    }
  }
  const [install, run] = [median(installs), median(runs)];
  report(`npm install of lanebox with ${image}, from local tarballs`, seconds(install));
  report(`  a first program that boots, runs one command, and closes`, seconds(run));
  report(`  install to first exec and close`, seconds(install + run));
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
