// What the binaries of the Linux helper package must be like: they run on glibc 2.36, need no library
// that a machine may lack, and what boots in the guest needs none at all.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fail, output } from "./common.mjs";

/** The newest glibc that a program may ask for: Debian 12's. */
const GLIBC_MAX = [2, 36];
/** Libraries of glibc and GCC, which each distribution has. libkrun and libkrunfw are linked statically. */
const LIBRARIES = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/** Fails when a program of ours asks for a newer glibc or for another library, or is of another version. */
export function checkProgram(path, version) {
  const libraries = needed(output("readelf", ["--wide", "--dynamic", path]));
  const others = libraries.filter((name) => !LIBRARIES.includes(name));
  if (others.length > 0) fail(`${path} needs ${others.join(", ")}`);
  const newest = newestGlibc(output("readelf", ["--wide", "--version-info", path]));
  if (compare(newest, GLIBC_MAX) > 0) {
    fail(
      `${path} needs glibc ${newest.join(".")}, and ${GLIBC_MAX.join(".")} is the newest allowed`,
    );
  }
  const told = output(path, ["--version"]).trim();
  if (!told.split(/\s+/).includes(version)) fail(`${path} is '${told}', not of version ${version}`);
  return { libraries, glibc: newest.join(".") };
}

/** Names in the NEEDED entries of `readelf --dynamic`. */
export function needed(text) {
  return [...text.matchAll(/\(NEEDED\).*\[([^\]]+)\]/g)].map(([, name]) => name);
}

/** The newest GLIBC_ version in `readelf --version-info`. */
export function newestGlibc(text) {
  const versions = [...text.matchAll(/\bGLIBC_(\d+(?:\.\d+)+)\b/g)].map(([, version]) =>
    version.split(".").map(Number),
  );
  if (versions.length === 0) fail("the program names no version of glibc");
  return versions.sort(compare).at(-1);
}

function compare(a, b) {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Fails when a program of the initramfs asks for an interpreter or for libraries, or is not there. */
export function checkInitramfs(path) {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-initramfs-"));
  try {
    for (const program of ["init", "e2fsck"]) {
      const bytes = execFileSync(
        "cpio",
        ["--quiet", "--extract", "--to-stdout", "-F", path, program],
        {
          maxBuffer: 256 * 1024 * 1024,
        },
      );
      if (bytes.length === 0) fail(`${path} has no ${program}`);
      const file = join(folder, program);
      writeFileSync(file, bytes);
      if (/^ +(INTERP|DYNAMIC) /m.test(output("readelf", ["--wide", "--program-headers", file]))) {
        fail(`${program} in ${path} is not static`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
