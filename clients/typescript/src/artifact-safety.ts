// Whether others than root and this user could change a file that is going to be executed or booted.
import { readFileSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import { SandboxError } from "./errors.js";

/** The system's users and groups, as texts in the form of /etc/passwd and /etc/group. */
export interface Accounts {
  readonly users: string;
  readonly groups: string;
}

/**
 * Throws `artifact-unsafe` when the file, or the folder that it really lies in, can be changed by
 * others: when it belongs to neither root nor this user, or others or its group may write. A group
 * that has the owner's name and no other member, which many distributions give each user, is the
 * owner. A file that does not exist is no finding of this.
 */
export function refuseWritableByOthers(
  path: string,
  accounts: () => Accounts = readAccounts,
): void {
  const user = process.getuid?.();
  if (user === undefined) return;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const folder = dirname(realpathSync(path));
  refuse(path, stat, user, accounts);
  refuse(folder, statSync(folder), user, accounts);
}

function refuse(path: string, stat: Stats, user: number, accounts: () => Accounts): void {
  const { uid, gid, mode } = stat;
  if (uid !== 0 && uid !== user) {
    throw unsafe(
      `${path} belongs to the user ${uid}, who is neither root nor the one that runs this program (${user})`,
      "Install the package as root, or as the user that runs the program",
    );
  }
  const who =
    (mode & 0o002) !== 0
      ? "anybody"
      : (mode & 0o020) !== 0 && !isPrivateGroup(uid, gid, accounts())
        ? `the group ${gid}`
        : undefined;
  if (who !== undefined) {
    throw unsafe(`${path} can be changed by ${who}`, `Run: chmod go-w '${path}'`);
  }
}

function unsafe(message: string, remedy: string): SandboxError {
  return new SandboxError("artifact-unsafe", message, { remedy });
}

/** Whether a group has the user's name and nobody else in it. Groups that are not in the file are not. */
function isPrivateGroup(uid: number, gid: number, { users, groups }: Accounts): boolean {
  const people = users.split("\n").map((line) => line.split(":"));
  const name = people.find(([, , id]) => id === String(uid))?.[0];
  const group = groups.split("\n").find((line) => line.split(":")[2] === String(gid));
  if (name === undefined || group === undefined || group.split(":")[0] !== name) return false;
  const members = (group.split(":")[3] ?? "").split(",").filter((member) => member !== "");
  const primary = people.filter(([, , , id]) => id === String(gid)).map(([other]) => other);
  return [...members, ...primary].every((member) => member === name);
}

function readAccounts(): Accounts {
  try {
    return {
      users: readFileSync("/etc/passwd", "utf8"),
      groups: readFileSync("/etc/group", "utf8"),
    };
  } catch {
    return { users: "", groups: "" };
  }
}
