// An object like node:fs/promises as a FileSystem. Each call first sees to it that the directory of
// the path is what it seems, not reached through a symlink; a symlink at its end is never followed.
import { constants } from "node:fs";
import { fileError } from "./errno.js";
import type {
  DirectoryEntry,
  FileStat,
  FileSystem,
  FileTimes,
  FileType,
  ReadRequest,
  WriteRequest,
} from "./file-system.js";

/** What is used of a file handle. */
interface Handle {
  read(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }>;
  write(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>;
  truncate(size: number): Promise<unknown>;
  sync?(): Promise<unknown>;
  close(): Promise<unknown>;
}

interface Kind {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isFIFO(): boolean;
  isSocket(): boolean;
}

type Stats = Kind & Readonly<Record<string, number | bigint | undefined>>;

/** The functions that are used, as node:fs/promises has them. */
export interface NodeFs {
  lstat(path: string, options: { bigint: true }): Promise<Stats>;
  readdir(
    path: string,
    options: { withFileTypes: true },
  ): Promise<readonly (string | (Kind & { name: string }))[]>;
  open?(path: string, flags: number, mode?: number): Promise<Handle>;
  readFile?(path: string): Promise<Uint8Array>;
  realpath?(path: string): Promise<string>;
  mkdir?(path: string, options: { mode: number }): Promise<unknown>;
  unlink?(path: string): Promise<unknown>;
  rmdir?(path: string): Promise<unknown>;
  rename?(from: string, to: string): Promise<unknown>;
  link?(path: string, newPath: string): Promise<unknown>;
  symlink?(target: string, path: string): Promise<unknown>;
  readlink?(path: string): Promise<string>;
  chmod?(path: string, mode: number): Promise<unknown>;
  chown?(path: string, uid: number, gid: number): Promise<unknown>;
  lchown?(path: string, uid: number, gid: number): Promise<unknown>;
  utimes?(path: string, accessed: number, modified: number): Promise<unknown>;
  lutimes?(path: string, accessed: number, modified: number): Promise<unknown>;
  statfs?(path: string): Promise<Readonly<Record<string, number>>>;
}

type Place = (path: string) => Promise<string>;

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;

/** The file system, with the methods that there are functions for. */
export function promisesFileSystem(node: NodeFs, root: string): FileSystem {
  const place = placer(node, root);
  return {
    stat: async (path) => statOf(await node.lstat(await place(path), { bigint: true })),
    list: async (path) => list(node, await place(path)),
    read: async (request) => read(node, await place(request.path), request),
    ...(node.open === undefined ? {} : content(node, place)),
    ...names(node, place),
    ...attributes(node, place),
    ...(node.statfs === undefined ? {} : { statfs: async () => sizes(node, await place("/")) }),
  };
}

/** Where a path of the mount is in the other file system. */
function placer(node: NodeFs, root: string): Place {
  let real: Promise<string> | undefined;
  return async (path) => {
    if (real === undefined) {
      real = node.realpath === undefined ? Promise.resolve(root) : node.realpath(root);
      real.catch(() => {
        real = undefined; // the root may come to be later
      });
    }
    const base = (await real).replace(/\/$/, "");
    if (path === "/") return base === "" ? "/" : base;
    const parent = `${base}${path.slice(0, path.lastIndexOf("/"))}`;
    const isDirect =
      node.realpath === undefined || parent === base || (await node.realpath(parent)) === parent;
    if (!isDirect) throw fileError("ENOTDIR", "a directory of the path is a symlink");
    return `${base}${path}`;
  };
}

/** The methods that change content. */
function content(node: NodeFs, place: Place): Partial<FileSystem> {
  return {
    createFile: async (path, options) => {
      const mode = options?.mode ?? 0o644;
      const at = await place(path);
      await withHandle(
        node,
        [at, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode],
        async () => undefined,
      );
      await node.chmod?.(at, mode); // this process's umask has no say
      return statOf(await node.lstat(at, { bigint: true }));
    },
    write: async (request) => write(node, await place(request.path), request),
    truncate: async (path, size) => {
      const at = await place(path);
      await withHandle(node, [at, O_RDWR | O_NOFOLLOW], (handle) => handle.truncate(size));
      return statOf(await node.lstat(at, { bigint: true }));
    },
    fsync: async (path) => {
      const at = await place(path);
      await withHandle(node, [at, O_RDONLY | O_NOFOLLOW], async (handle) => handle.sync?.());
    },
  };
}

/** The methods that change names. */
function names(node: NodeFs, place: Place): Partial<FileSystem> {
  const { mkdir, unlink, rmdir, rename, link, symlink, readlink } = node;
  return {
    ...(mkdir && {
      mkdir: async (path, options) => {
        const mode = options?.mode ?? 0o755;
        const at = await place(path);
        await mkdir.call(node, at, { mode });
        await node.chmod?.(at, mode);
      },
    }),
    ...(unlink && {
      unlink: async (path) => {
        const at = await place(path);
        if ((await node.lstat(at, { bigint: true })).isDirectory()) {
          throw fileError("EISDIR", "it is a directory");
        }
        await unlink.call(node, at);
      },
    }),
    ...(rmdir && { rmdir: async (path) => rmdir.call(node, await place(path)) }),
    ...(rename && {
      rename: async (from, to) => rename.call(node, await place(from), await place(to)),
    }),
    ...(link && {
      link: async (path, newPath) => link.call(node, await place(path), await place(newPath)),
    }),
    ...(symlink && {
      symlink: async (target, path) => symlink.call(node, target, await place(path)),
    }),
    ...(readlink && { readlink: async (path) => readlink.call(node, await place(path)) }),
  };
}

/** The methods that change attributes. */
function attributes(node: NodeFs, place: Place): Partial<FileSystem> {
  const { chmod } = node;
  const chown = node.lchown ?? node.chown;
  const utimes = node.lutimes ?? node.utimes;
  const unlessLink = async (path: string, isLinkAware: boolean) => {
    const at = await place(path);
    const stats = await node.lstat(at, { bigint: true });
    if (!isLinkAware && stats.isSymbolicLink()) throw fileError("EOPNOTSUPP", "it is a symlink");
    return [at, stats] as const;
  };
  return {
    ...(chmod && {
      chmod: async (path, mode) => {
        const [at] = await unlessLink(path, false);
        await chmod.call(node, at, mode);
      },
    }),
    ...(chown && {
      chown: async (path, uid, gid) => {
        const [at] = await unlessLink(path, chown === node.lchown);
        await chown.call(node, at, uid, gid);
      },
    }),
    ...(utimes && {
      utimes: async (path, times: FileTimes) => {
        const [at, stats] = await unlessLink(path, utimes === node.lutimes);
        const accessed = times.accessedAtMs ?? Number(stats["atimeMs"]);
        const modified = times.modifiedAtMs ?? Number(stats["mtimeMs"]);
        await utimes.call(node, at, accessed / 1000, modified / 1000);
      },
    }),
  };
}

async function list(node: NodeFs, path: string): Promise<DirectoryEntry[]> {
  const entries: DirectoryEntry[] = [];
  for (const entry of await node.readdir(path, { withFileTypes: true })) {
    const name = typeof entry === "string" ? entry : entry.name;
    const kind =
      typeof entry === "string" ? await node.lstat(`${path}/${name}`, { bigint: true }) : entry;
    const type = typeOf(kind);
    if (type !== undefined) entries.push({ name, type });
  }
  return entries;
}

async function read(node: NodeFs, path: string, { range }: ReadRequest): Promise<Uint8Array> {
  const offset = range?.offset ?? 0;
  if (node.open === undefined || range === undefined) {
    const all = await node.readFile?.(path);
    return all?.subarray(offset, offset + (range?.length ?? all.byteLength)) ?? new Uint8Array();
  }
  const { length } = range;
  const buffer = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  await withHandle(node, [path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK], async (handle) => {
    while (filled < length) {
      const { bytesRead } = await handle.read(buffer, filled, length - filled, offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
  });
  return buffer.subarray(0, filled);
}

async function write(node: NodeFs, path: string, request: WriteRequest): Promise<number> {
  const { contents, offset } = request;
  const { bytesWritten } = await withHandle(node, [path, O_RDWR | O_NOFOLLOW], (handle) =>
    handle.write(contents, 0, contents.byteLength, offset),
  );
  return bytesWritten;
}

async function withHandle<T>(
  node: NodeFs,
  [path, flags, mode]: readonly [string, number, number?],
  use: (handle: Handle) => Promise<T>,
): Promise<T> {
  const handle = await node.open?.(path, flags, mode);
  if (handle === undefined) throw fileError("EOPNOTSUPP", "there is no open");
  try {
    return await use(handle);
  } finally {
    await handle.close();
  }
}

async function sizes(node: NodeFs, path: string) {
  const { bsize, blocks, bfree, files, ffree } = (await node.statfs?.(path)) ?? {};
  return { blockSize: bsize, blocks: blocks ?? 0, blocksFree: bfree ?? 0, files, filesFree: ffree };
}

function typeOf(kind: Kind): FileType | undefined {
  if (kind.isFile()) return "file";
  if (kind.isDirectory()) return "directory";
  if (kind.isSymbolicLink()) return "symlink";
  if (kind.isFIFO()) return "fifo";
  return kind.isSocket() ? "socket" : undefined;
}

function statOf(stats: Stats): FileStat {
  const type = typeOf(stats);
  if (type === undefined) throw fileError("EACCES", "device nodes are not for guests");
  const number = (name: string) => Number(stats[name]);
  const time = (name: string) => {
    const ns = stats[`${name}Ns`];
    return typeof ns === "bigint" ? ns : BigInt(Math.trunc(number(`${name}Ms`))) * 1_000_000n;
  };
  const ino = stats["ino"];
  return {
    type,
    sizeBytes: number("size"),
    mode: number("mode") & 0o7777,
    uid: number("uid"),
    gid: number("gid"),
    nlink: number("nlink"),
    ...(ino === undefined ? {} : { ino: BigInt(ino) }),
    modifiedAtNs: time("mtime"),
    accessedAtNs: time("atime"),
    changedAtNs: time("ctime"),
  };
}
