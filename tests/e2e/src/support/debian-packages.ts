/** Debian packages for a guest without a network: fetched on the host, unpacked in the lane. */

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Vm } from "lanebox";
import { shell } from "./lane.js";

const run = promisify(execFile);

/** Where {@link installInto} makes a root that has the packages too. */
export const EXTENDED_ROOT = "/tmp/extended";

/** Fetches packages and what they need beyond the guest's own; the archives' contents, or why not. */
async function fetchPackages(names: string[], guestStatus: string): Promise<Buffer[] | string> {
  const folder = mkdtempSync(join(tmpdir(), "lanebox-debs-"));
  try {
    const archives = join(folder, "archives");
    mkdirSync(join(archives, "partial"), { recursive: true });
    writeFileSync(join(folder, "status"), guestStatus);
    const options = [
      `Dir::State::status=${join(folder, "status")}`,
      `Dir::Cache::archives=${archives}/`,
      "Debug::NoLocking=1",
      "APT::Install-Recommends=0",
      "APT::Sandbox::User=root",
    ].flatMap((option) => ["-o", option]);
    await run("apt-get", [...options, "-y", "-q", "--download-only", "install", ...names]);
    return readdirSync(archives)
      .filter((name) => name.endsWith(".deb"))
      .map((name) => readFileSync(join(archives, name)));
  } catch (error) {
    return `apt-get on this machine: ${String((error as { stderr?: string }).stderr ?? error).trim()}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Makes {@link EXTENDED_ROOT} in a debian lane: its root and, over it in memory, the packages.
 * Returns why it cannot, when the packages cannot be had on this machine.
 */
export async function installInto(vm: Vm, names: string[]): Promise<string | undefined> {
  const archives = await fetchPackages(names, await shell(vm, "cat /var/lib/dpkg/status"));
  if (typeof archives === "string") return archives;
  await shell(
    vm,
    `mkdir /tmp/over ${EXTENDED_ROOT} && mount -t tmpfs over /tmp/over && mkdir /tmp/over/u /tmp/over/w &&
     mount -t overlay -o lowerdir=/,upperdir=/tmp/over/u,workdir=/tmp/over/w overlay ${EXTENDED_ROOT} &&
     for d in proc sys dev; do mount --rbind /$d ${EXTENDED_ROOT}/$d; done && mount -t tmpfs tmp ${EXTENDED_ROOT}/tmp`,
  );
  // Not `dpkg-deb --extract`: it puts a folder in the place of the link that /bin is.
  const unpack = `dpkg-deb --fsys-tarfile /dev/stdin | tar -x -p --keep-directory-symlink -C ${EXTENDED_ROOT}`;
  for (const archive of archives) {
    const unpacked = await vm.exec("sh", ["-c", unpack], { stdin: archive });
    if (unpacked.exitCode !== 0) throw new Error(unpacked.stderr);
  }
  await shell(vm, `chroot ${EXTENDED_ROOT} ldconfig`);
  // What the packages' own scripts would do: the alternatives of iptables.
  await shell(
    vm,
    `cd ${EXTENDED_ROOT}/usr/sbin && for n in iptables ip6tables; do [ -e $n ] || [ ! -e $n-nft ] || ln -s $n-nft $n; done`,
  );
  return undefined;
}
