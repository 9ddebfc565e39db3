// Where images that were pulled from registries are kept: one folder of this user, which the
// artifact lookup searches last.
//
//   image-NAME ─► .store-XXXXXX/{image.json, rootfs.qcow2}
//
// A link is set when its folder is whole, so that an image is there or is not; one that is pulled
// again takes the place of the last in one step. A VM that runs keeps the file it opened.
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync } from "node:fs";
import { rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

const STORE = ".store-";
/** Milliseconds after which a folder that no link leads to belongs to nobody any more. */
const ABANDONED_MS = 24 * 60 * 60 * 1000;

/** `$XDG_DATA_HOME/lanebox/images`, or the same below `~/.local/share`. */
export function pulledImagesDirectory(): string {
  const given = process.env["XDG_DATA_HOME"] ?? "";
  const base = isAbsolute(given) ? given : join(homedir(), ".local/share");
  return join(base, "lanebox/images");
}

/** A new folder to build an image in. What earlier pulls were killed in is removed. */
export async function beginImage(): Promise<string> {
  const parent = pulledImagesDirectory();
  mkdirSync(parent, { recursive: true, mode: 0o755 });
  const linked = new Set(readdirSync(parent).map((name) => linkTarget(join(parent, name))));
  for (const name of readdirSync(parent)) {
    const path = join(parent, name);
    if (!name.startsWith(STORE) || linked.has(name)) continue;
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && Date.now() - stat.mtimeMs > ABANDONED_MS) await discard(path);
  }
  return mkdtempSync(join(parent, STORE));
}

/** The finished folder is the image of this name from now on. Returns the path it is found at. */
export async function keepImage(folder: string, name: string): Promise<string> {
  const parent = pulledImagesDirectory();
  // Neither character can be part of a name, so two names never meet in one folder.
  const link = join(parent, `image-${name.replaceAll("/", "+").replaceAll(":", "@")}`);
  const last = linkTarget(link);
  const fresh = `${folder}.link`;
  await symlink(folder.slice(parent.length + 1), fresh);
  await rename(fresh, link);
  if (last?.startsWith(STORE)) await discard(join(parent, last));
  return link;
}

/** Removes a folder that is not the image of any name. */
export async function discard(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

function linkTarget(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isSymbolicLink() ? readlinkSync(path) : undefined;
}
