// The interface of a file system that the caller's own code serves: `fs.virtual` takes it, and
// `fs.memory` is one.

/** What a file can be. */
export type FileType = "file" | "directory" | "symlink" | "fifo" | "socket";

/**
 * What is known of a file. What is left out gets a sensible value that then stays put: mode 0644, or
 * 0755 for a directory, root as owner, the time when it was first seen. Times are milliseconds since
 * 1970, fractions allowed; where a nanosecond matters, the field in nanoseconds goes before.
 */
export interface FileStat {
  readonly type: FileType;
  readonly sizeBytes?: number | undefined;
  /** What the content takes, where that is less than its size (holes). */
  readonly allocatedBytes?: number | undefined;
  /** Permission bits with set-id and sticky bits, such as 0o755. */
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  /** Names of the file. */
  readonly nlink?: number | undefined;
  /** Number of the file; two names of one file have the same. */
  readonly ino?: number | bigint | undefined;
  /** Last change of the content. */
  readonly modifiedAtMs?: number | undefined;
  /** Last access. */
  readonly accessedAtMs?: number | undefined;
  /** Last change of the attributes. */
  readonly changedAtMs?: number | undefined;
  readonly modifiedAtNs?: bigint | undefined;
  readonly accessedAtNs?: bigint | undefined;
  readonly changedAtNs?: bigint | undefined;
}

/** A name in a directory. Beside the type it may tell all that `stat` would. */
export interface DirectoryEntry extends FileStat {
  readonly name: string;
  /** The bytes of the name; they count where both are given. For names that are not UTF-8. */
  readonly rawName?: Uint8Array | undefined;
}

/** Bytes of a file. Fewer than `length` only at the file's end. */
export interface ReadRequest<Path = string> {
  readonly path: Path;
  /** Absent: the whole file. The guest always asks for a range, of 1 MiB at most. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** Fires when the answer is of no interest any more. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes for a file, 1 MiB at most from the guest. They are the file system's to keep. */
export interface WriteRequest<Path = string> {
  readonly path: Path;
  readonly offset: number;
  readonly contents: Uint8Array;
  /** Fires when the answer is of no interest any more. */
  readonly signal?: AbortSignal | undefined;
}

/** Times to set; one that is absent stays. Both units are given to a callback; either may be given to `fs.memory`. */
export interface FileTimes {
  readonly accessedAtMs?: number | undefined;
  readonly modifiedAtMs?: number | undefined;
  readonly accessedAtNs?: bigint | undefined;
  readonly modifiedAtNs?: bigint | undefined;
}

/** What happens to what is there: `"no-replace"` fails with EEXIST, `"exchange"` makes the two change places; absent: it is replaced. */
export type RenameFlag = "no-replace" | "exchange";

/** Sizes of a whole file system. */
export interface FileSystemSizes {
  /** Bytes of a block. Default: 4096. */
  readonly blockSize?: number | undefined;
  readonly blocks: number;
  readonly blocksFree: number;
  /** Files that there can be. */
  readonly files?: number | undefined;
  /** Files that can still be made. */
  readonly filesFree?: number | undefined;
}

/**
 * Tells which paths have changed otherwise than through the guest; may be called at any time. For a
 * name that came or went, tell its directory too.
 */
export type OnChange<Path = string> = (paths: readonly (Path | string)[]) => void;

/**
 * A file system of the caller's own. Paths are absolute within it, `/` is its root, no part is
 * empty, `.` or `..`; symlinks are the guest's to follow, so no method follows one.
 *
 * Methods are asynchronous and fail by throwing an error whose `errno` or `code` is a Linux name
 * such as `EACCES`, or whose `errno` is Node's number: that is what the guest sees. Whatever else is
 * thrown, and an answer that cannot be, is EIO for the guest and a `mount-error` event. A promise
 * that never settles holds one of the mount's 128 slots; nothing else waits for it.
 *
 * Names in Linux are bytes. With `rawPaths` every path, target and attribute name is a `Uint8Array`;
 * without it they are strings, and what is not UTF-8 is refused with EILSEQ before the method is
 * called.
 */
export interface FileSystem<Path = string> {
  /** Every path, symlink target and attribute name that the methods get is a `Uint8Array`. */
  readonly rawPaths?: boolean | undefined;
  /** `rename` heeds its third argument. Without this it never gets one. */
  readonly renameFlags?: boolean | undefined;

  /** What is at the path itself. ENOENT when nothing is. */
  stat(path: Path): Promise<FileStat>;
  /** All entries of a directory, without `.` and `..`, in any order; 262144 at most. */
  list(path: Path): Promise<readonly DirectoryEntry[]>;
  read(request: ReadRequest<Path>): Promise<Uint8Array>;

  /** Makes an empty file. With this, `write` and `truncate` the mount can be written to; without all three it is read-only. */
  createFile?(path: Path, options?: { readonly mode?: number | undefined }): Promise<FileStat>;
  /** How many of the bytes were written, at least one. The file grows as needed. */
  write?(request: WriteRequest<Path>): Promise<number>;
  /** Cuts, or grows with zeros. */
  truncate?(path: Path, sizeBytes: number): Promise<FileStat>;

  mkdir?(path: Path, options?: { readonly mode?: number | undefined }): Promise<unknown>;
  /** Makes a FIFO or a socket. */
  mknod?(
    path: Path,
    options: { readonly type: "fifo" | "socket"; readonly mode?: number | undefined },
  ): Promise<unknown>;
  /** Removes a name that is not a directory's. */
  unlink?(path: Path): Promise<unknown>;
  /** Removes an empty directory. */
  rmdir?(path: Path): Promise<unknown>;
  rename?(from: Path, to: Path, flag?: RenameFlag): Promise<unknown>;
  /** Gives the file at `path` the name `newPath` too. */
  link?(path: Path, newPath: Path): Promise<unknown>;
  symlink?(target: Path, path: Path): Promise<unknown>;
  readlink?(path: Path): Promise<string | Uint8Array>;
  chmod?(path: Path, mode: number): Promise<unknown>;
  chown?(path: Path, uid: number, gid: number): Promise<unknown>;
  utimes?(path: Path, times: FileTimes): Promise<unknown>;
  /** `"create"`: EEXIST when it is there; `"replace"`: ENODATA when it is not. */
  setxattr?(
    path: Path,
    name: Path,
    value: Uint8Array,
    flag?: "create" | "replace",
  ): Promise<unknown>;
  /** ENODATA when it is not there. */
  getxattr?(path: Path, name: Path): Promise<Uint8Array>;
  listxattr?(path: Path): Promise<readonly (string | Uint8Array)[]>;
  removexattr?(path: Path, name: Path): Promise<unknown>;
  /** Resolves when what was written to the path is durable. */
  fsync?(path: Path): Promise<unknown>;
  statfs?(): Promise<FileSystemSizes>;
  /** Begins to tell of changes, until the function that it returns is called. */
  watch?(onChange: OnChange<Path>): (() => void) | undefined;
}
