/** An apt repository with one small package, made by dpkg-deb. */

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "./artifacts.js";

/** Makes it in a directory of its own: "lanebox-probe", whose one file is /opt/probe. */
export function aptRepository(folder: string): void {
  const tree = join(folder, "tree");
  mkdirSync(join(tree, "DEBIAN"), { recursive: true });
  mkdirSync(join(tree, "opt"));
  writeFileSync(join(tree, "opt/probe"), "installed by apt\n");
  const control = [
    "Package: lanebox-probe",
    "Version: 1",
    "Architecture: all",
    "Maintainer: Lanebox <nobody@api.test>",
    "Description: a package of a test",
  ].join("\n");
  writeFileSync(join(tree, "DEBIAN/control"), `${control}\n`);
  const file = join(folder, "probe.deb");
  execFileSync("dpkg-deb", ["--build", "--root-owner-group", tree, file], { stdio: "pipe" });
  rmSync(tree, { recursive: true });
  const bytes = readFileSync(file);
  const digest = sha256(bytes).replace("sha256:", "");
  const where = `Filename: ./probe.deb\nSize: ${bytes.length}\nSHA256: ${digest}`;
  writeFileSync(join(folder, "Packages"), `${control}\n${where}\n`);
}
