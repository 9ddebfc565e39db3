// The walk of a path as a system call does it: symlinks are followed, ".." goes up. Paths of the
// JavaScript side; an absolute symlink begins at the root of the tree.
import { fileError } from "../mounts/errno.js";
import { binary, lossy, NAME_MAX, PATH_MAX, type PathLike } from "../mounts/names.js";
import { type DirectoryNode, SymlinkNode } from "./node.js";
import { directory, type Place, type Tree } from "./tree.js";

/** Symlinks that one walk follows, at most (Linux, MAXSYMLINKS). */
const LINKS_MAX = 40;

/** The binary string of a path that a caller gave. Throws EINVAL, ENAMETOOLONG. */
export function givenPath(path: PathLike): string {
  const isText = typeof path === "string";
  if (!isText && !(path instanceof Uint8Array)) {
    throw fileError("EINVAL", `a path is a string or a Uint8Array, not ${typeof path}`);
  }
  if (isText && !path.isWellFormed()) throw fileError("EINVAL", "a path with lone surrogates");
  const result = binary(path);
  if (result.includes("\0")) throw fileError("EINVAL", "a path with NUL");
  if (result === "") throw fileError("ENOENT", "an empty path");
  if (result.length > PATH_MAX) throw fileError("ENAMETOOLONG", "the path is too long");
  return result;
}

/** Where a path leads. The last name need not be there; with `follow`, a symlink there is followed. */
export function walk(tree: Tree, path: string, follow: boolean): Place {
  const todo = partsBackwards(path);
  let parent: DirectoryNode = tree.root;
  let links = 0;
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    const isLast = todo.length === 0;
    if (part.length > NAME_MAX) throw fileError("ENAMETOOLONG", `'${lossy(part.slice(0, 40))}…'`);
    if (part === "..") {
      parent = parent.parent;
      continue;
    }
    const node = parent.entries.get(part);
    if (node instanceof SymlinkNode && (follow || !isLast)) {
      links += 1;
      if (links > LINKS_MAX) throw fileError("ELOOP", `'${lossy(path)}'`);
      todo.push(...partsBackwards(node.target));
      if (node.target.startsWith("/")) parent = tree.root;
      continue;
    }
    if (isLast) return { parent, name: part };
    parent = directory(tree.child(parent, part));
  }
  return placeOf(parent);
}

/** The names of a path that lead somewhere, the first one last. */
function partsBackwards(path: string): string[] {
  return path
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .reverse();
}

/** Where a directory is. */
export function placeOf(node: DirectoryNode): Place {
  return { parent: node.parent, name: node.name };
}

/** The path of a place. */
export function pathOf({ parent, name }: Place): string {
  const names = name === "" ? [] : [name];
  for (let at = parent; at.name !== ""; at = at.parent) names.unshift(at.name);
  return `/${names.join("/")}`;
}
