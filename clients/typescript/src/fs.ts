// Mounts: part of the API, refused by name in this version.
import { notSupported } from "./errors.js";

function refused(name: string): (...args: unknown[]) => never {
  return () => {
    throw notSupported(`fs.${name}`, "Pass files through exec's stdin and stdout");
  };
}

/** File systems to mount in a guest. Not in this version: each throws `not-supported`. */
export const fs = {
  /** An in-memory tree. Throws `not-supported`. */
  memory: refused("memory"),
  /** A file system of the caller's own. Throws `not-supported`. */
  virtual: refused("virtual"),
  /** A directory of the host. Throws `not-supported`. */
  bind: refused("bind"),
} as const;
