// What a mount's stream is served from: a FileSystem, or the same with a directory's entries made
// only as they are sent.
import type { DirectoryEntry, FileSystem } from "./file-system.js";

/** A FileSystem whose lists may be lazy. */
export type ServedFileSystem<Path = string> = Omit<FileSystem<Path>, "list"> & {
  list(path: Path): Promise<Iterable<DirectoryEntry>>;
};

/** One that gets its paths as it has asked for them; which is known at run time only. */
// biome-ignore lint/suspicious/noExplicitAny: strings or bytes, as `rawPaths` says
export type AnyFileSystem = ServedFileSystem<any>;
