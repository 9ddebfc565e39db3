// fs.fromPromises: what it takes, checked, and the mount that it makes.
import { absolutePath, invalid, object, withDefault } from "../validate.js";
import { VirtualMount, type VirtualOptions } from "./mount.js";
import { type NodeFs, promisesFileSystem } from "./promises-file-system.js";

type Method = (...args: never[]) => Promise<unknown>;

/**
 * The functions of `node:fs/promises` that are used. `lstat`, `readdir` and `open` or `readFile`
 * must be there; without `open` the mount is read-only, and what else is missing the guest gets
 * EOPNOTSUPP or EPERM for.
 */
export interface FileSystemPromises {
  readonly lstat: Method;
  readonly readdir: Method;
  readonly open?: Method;
  readonly readFile?: Method;
  readonly realpath?: Method;
  readonly mkdir?: Method;
  readonly unlink?: Method;
  readonly rmdir?: Method;
  readonly rename?: Method;
  readonly link?: Method;
  readonly symlink?: Method;
  readonly readlink?: Method;
  readonly chmod?: Method;
  readonly chown?: Method;
  readonly lchown?: Method;
  readonly utimes?: Method;
  readonly lutimes?: Method;
  readonly statfs?: Method;
}

/** Options of `fs.fromPromises`. */
export interface PromisesOptions extends VirtualOptions {
  /** Absolute path in the other file system of what becomes the mount's root. Default: `/`. */
  readonly root?: string | undefined;
}

const names = [
  ...["lstat", "readdir", "open", "readFile", "realpath", "mkdir", "unlink", "rmdir", "rename"],
  ...["link", "symlink", "readlink", "chmod", "chown", "lchown", "utimes", "lutimes", "statfs"],
];
const rootOption = object({ root: withDefault(absolutePath, "/") });

/** Makes a mount of an object like `node:fs/promises`. */
export function fromPromises(given: unknown, options: PromisesOptions = {}): VirtualMount {
  if (typeof given !== "object" || given === null) {
    throw invalid("fsPromises", "an object like node:fs/promises", given);
  }
  const methods = given as Record<string, unknown>;
  for (const name of names) {
    const method = methods[name];
    const isNeeded =
      name === "lstat" ||
      name === "readdir" ||
      (name === "readFile" && methods["open"] === undefined);
    if (typeof method !== "function" && (isNeeded || method !== undefined)) {
      throw invalid(`fsPromises.${name}`, "a function", method);
    }
  }
  if (typeof options !== "object" || options === null) {
    throw invalid("options", "an object", options);
  }
  const { root: asked, ...others } = options;
  const { root } = rootOption({ root: asked }, "options");
  return new VirtualMount(promisesFileSystem(given as NodeFs, root), others);
}
