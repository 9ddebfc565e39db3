// What a file system object can do, told by the methods that it has.
import { FilesystemFeature as Feature } from "../gen/lanebox/v1/mount_pb.js";
import { invalid } from "../validate.js";
import type { AnyFileSystem } from "./served.js";

const REQUIRED = ["stat", "list", "read"] as const;
const WRITABLE = ["createFile", "write", "truncate"] as const;
/** Methods that a feature each stands for; those that change nothing are there on a read-only mount too. */
const READING = {
  readlink: Feature.READLINK,
  getxattr: Feature.GETXATTR,
  listxattr: Feature.LISTXATTR,
  statfs: Feature.STATFS,
} as const;
const CHANGING = {
  mkdir: Feature.MKDIR,
  unlink: Feature.UNLINK,
  rmdir: Feature.RMDIR,
  rename: Feature.RENAME,
  link: Feature.LINK,
  symlink: Feature.SYMLINK,
  chmod: Feature.CHMOD,
  chown: Feature.CHOWN,
  utimes: Feature.UTIMES,
  setxattr: Feature.SETXATTR,
  removexattr: Feature.REMOVEXATTR,
  fsync: Feature.FSYNC,
  mknod: Feature.NODES,
} as const;

/** Throws `invalid-argument` for an object that is no file system, naming what is wrong. */
export function requireFileSystem(value: unknown, path: string): AnyFileSystem {
  if (typeof value !== "object" || value === null) throw invalid(path, "an object", value);
  const given = value as Record<string, unknown>;
  for (const name of REQUIRED) {
    if (typeof given[name] !== "function") {
      throw invalid(`${path}.${name}`, "a function", given[name]);
    }
  }
  for (const name of [...WRITABLE, ...Object.keys({ ...READING, ...CHANGING }), "watch"]) {
    const method = given[name];
    if (method !== undefined && typeof method !== "function") {
      throw invalid(`${path}.${name}`, "a function, or nothing", method);
    }
  }
  for (const name of ["rawPaths", "renameFlags"]) {
    const flag = given[name];
    if (flag !== undefined && typeof flag !== "boolean") {
      throw invalid(`${path}.${name}`, "true or false", flag);
    }
  }
  return value as AnyFileSystem;
}

/** The features of a file system. Without all of `createFile`, `write` and `truncate`, and when that is asked for, only those that read. */
export function featuresOf(fileSystem: AnyFileSystem, readOnly: boolean): Feature[] {
  const has = (name: string) => (fileSystem as Record<string, unknown>)[name] !== undefined;
  const present = (methods: Readonly<Record<string, Feature>>) =>
    Object.entries(methods).flatMap(([name, feature]) => (has(name) ? [feature] : []));
  const reading = present(READING);
  if (readOnly || !WRITABLE.every(has)) return reading;
  const modes = has("rename") && fileSystem.renameFlags === true ? [Feature.RENAME_MODES] : [];
  return [Feature.WRITABLE, ...reading, ...present(CHANGING), ...modes];
}
