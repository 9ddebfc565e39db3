// A question of the host put to a file system: which method, with what, and what its answer must be.
import {
  type FilesystemCall,
  FileType,
  RenameMode,
  type SetTime,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { FilesystemFeature as Feature } from "../gen/lanebox/v1/mount_pb.js";
import {
  type Answer,
  DONE,
  dataAnswer,
  namesAnswer,
  sizesAnswer,
  statAnswer,
  targetAnswer,
  writtenAnswer,
} from "./answers.js";
import { fileError } from "./errno.js";
import type { DirectoryEntry, FileTimes } from "./file-system.js";
import { utf8 } from "./names.js";
import type { AnyFileSystem } from "./served.js";
import { join, now } from "./times.js";

/** Bytes of an attribute's value, at most. */
const XATTR_VALUE_MAX = 64 * 1024;
/** The largest position that a number holds exactly. */
const OFFSET_MAX = BigInt(Number.MAX_SAFE_INTEGER);

type Call = FilesystemCall["call"];
type CallName = NonNullable<Call["case"]>;

/** What a list is answered with, to be sent in pieces. */
export interface Listing {
  readonly case: "listing";
  readonly entries: Iterable<DirectoryEntry>;
}

/** What a call needs beside stat, list and read. */
const needs: Partial<Record<CallName, Feature>> = {
  createFile: Feature.WRITABLE,
  write: Feature.WRITABLE,
  truncate: Feature.WRITABLE,
  mkdir: Feature.MKDIR,
  unlink: Feature.UNLINK,
  rmdir: Feature.RMDIR,
  rename: Feature.RENAME,
  link: Feature.LINK,
  symlink: Feature.SYMLINK,
  readlink: Feature.READLINK,
  chmod: Feature.CHMOD,
  chown: Feature.CHOWN,
  utimes: Feature.UTIMES,
  setxattr: Feature.SETXATTR,
  getxattr: Feature.GETXATTR,
  listxattr: Feature.LISTXATTR,
  removexattr: Feature.REMOVEXATTR,
  fsync: Feature.FSYNC,
  statfs: Feature.STATFS,
};

/** Puts questions to one file system. */
export class Questioner {
  // biome-ignore lint/suspicious/noExplicitAny: which methods there are is known from the features
  readonly #fs: any;
  readonly #features: ReadonlySet<Feature>;
  readonly #raw: boolean;

  constructor(fileSystem: AnyFileSystem, features: readonly Feature[]) {
    this.#fs = fileSystem;
    this.#features = new Set(features);
    this.#raw = fileSystem.rawPaths === true;
  }

  /** The answer, checked. Rejects with what the method threw, or with a WrongAnswer. */
  async ask({ path: given, call }: FilesystemCall, signal: AbortSignal): Promise<Answer | Listing> {
    this.#require(call);
    const fs = this.#fs;
    const path = this.#text(given);
    switch (call.case) {
      case "stat":
        return { case: "stat", value: statAnswer(await fs.stat(path)) };
      case "list":
        return { case: "listing", entries: await fs.list(path) };
      case "read": {
        if (call.value.offset > OFFSET_MAX) return dataAnswer(new Uint8Array(), 0);
        const range = { offset: Number(call.value.offset), length: call.value.length };
        return dataAnswer(await fs.read({ path, range, signal }), range.length);
      }
      case "write": {
        const { offset, contents } = call.value;
        const request = { path, offset: position(offset), contents, signal };
        return writtenAnswer(await fs.write(request), contents.byteLength);
      }
      case "readlink":
        return targetAnswer(await fs.readlink(path));
      case "getxattr":
        return dataAnswer(await fs.getxattr(path, this.#text(call.value.name)), XATTR_VALUE_MAX);
      case "listxattr":
        return namesAnswer(await fs.listxattr(path));
      case "statfs":
        return sizesAnswer(await fs.statfs());
      default:
        return this.#change(path, call);
    }
  }

  /** The calls that change names and attributes. */
  async #change(path: unknown, call: Call): Promise<Answer> {
    const fs = this.#fs;
    switch (call.case) {
      case "createFile": {
        const { type, mode } = call.value;
        if (type === FileType.FILE || type === FileType.UNSPECIFIED) {
          return { case: "stat", value: statAnswer(await fs.createFile(path, { mode })) };
        }
        await fs.mknod(path, { type: type === FileType.FIFO ? "fifo" : "socket", mode });
        return { case: "stat", value: statAnswer(await fs.stat(path)) };
      }
      case "truncate":
        return {
          case: "stat",
          value: statAnswer(await fs.truncate(path, position(call.value.size))),
        };
      case "mkdir":
        await fs.mkdir(path, { mode: call.value.mode });
        return DONE;
      case "unlink":
      case "rmdir":
      case "fsync":
        await fs[call.case](path);
        return DONE;
      case "rename":
        await this.#rename(path, this.#text(call.value.to), call.value.mode);
        return DONE;
      case "link":
        await fs.link(path, this.#text(call.value.to));
        return DONE;
      case "symlink":
        await fs.symlink(this.#text(call.value.target), path);
        return DONE;
      default:
        return this.#changeAttribute(path, call);
    }
  }

  async #changeAttribute(path: unknown, call: Call): Promise<Answer> {
    const fs = this.#fs;
    switch (call.case) {
      case "chmod":
        await fs.chmod(path, call.value.mode);
        return DONE;
      case "chown":
        await fs.chown(path, call.value.uid, call.value.gid);
        return DONE;
      case "utimes":
        await fs.utimes(path, timesOf(call.value.accessed, call.value.modified));
        return DONE;
      case "setxattr": {
        const { name, value, flags } = call.value;
        const flag = flags === 1 ? "create" : flags === 2 ? "replace" : undefined;
        await fs.setxattr(path, this.#text(name), value, flag);
        return DONE;
      }
      case "removexattr":
        await fs.removexattr(path, this.#text(call.value.name));
        return DONE;
      default:
        throw fileError("ENOSYS", "a question that this version does not know");
    }
  }

  async #rename(from: unknown, to: unknown, mode: RenameMode): Promise<void> {
    if (mode === RenameMode.UNSPECIFIED) return this.#fs.rename(from, to);
    if (!this.#features.has(Feature.RENAME_MODES)) throw fileError("EINVAL", "no rename flags");
    const flag = mode === RenameMode.EXCHANGE ? "exchange" : "no-replace";
    return this.#fs.rename(from, to, flag);
  }

  /** What was not offered is not asked of the file system, whatever the host says. */
  #require(call: Call): void {
    const feature = call.case === undefined ? undefined : needs[call.case];
    if (feature !== undefined && !this.#features.has(feature)) {
      const readOnly = !this.#features.has(Feature.WRITABLE);
      throw fileError(readOnly ? "EROFS" : "EOPNOTSUPP", `there is no ${call.case}`);
    }
    const isNode =
      call.case === "createFile" &&
      (call.value.type === FileType.FIFO || call.value.type === FileType.SOCKET);
    if (isNode && !this.#features.has(Feature.NODES)) throw fileError("EOPNOTSUPP", "no mknod");
  }

  /** A path, target or name as the file system wants it. Throws EILSEQ. */
  #text(given: Uint8Array): string | Uint8Array {
    if (this.#raw) return given;
    const text = utf8(given);
    if (text === undefined) throw fileError("EILSEQ", "a name that is not UTF-8");
    return text;
  }
}

/** A position in a file as a number that is exact. Throws EFBIG. */
function position(offset: bigint): number {
  if (offset > OFFSET_MAX) throw fileError("EFBIG", "no file is so large");
  return Number(offset);
}

function timesOf(accessed: SetTime | undefined, modified: SetTime | undefined): FileTimes {
  const present = now();
  const time = (set: SetTime) => (set.time === undefined ? present : join(set.time));
  const accessedAtNs = accessed && time(accessed);
  const modifiedAtNs = modified && time(modified);
  return {
    ...(accessedAtNs === undefined
      ? {}
      : { accessedAtNs, accessedAtMs: Number(accessedAtNs) / 1e6 }),
    ...(modifiedAtNs === undefined
      ? {}
      : { modifiedAtNs, modifiedAtMs: Number(modifiedAtNs) / 1e6 }),
  };
}
