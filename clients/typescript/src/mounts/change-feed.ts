// What a file system tells of its changes, checked: the way from its `watch` to the host.
import { describe, show } from "./answers.js";
import { binary, lossy, type PathLike, partsOf } from "./names.js";
import type { AnyFileSystem } from "./served.js";

/** Listens to one file system. Nothing that it does throws. */
export class ChangeFeed {
  readonly #fileSystem: AnyFileSystem;
  readonly #changed: (paths: readonly string[]) => void;
  readonly #warn: (message: string) => void;
  #stop: unknown;
  #state: "idle" | "on" | "off" = "idle";
  #warned = false;

  constructor(
    fileSystem: AnyFileSystem,
    changed: (paths: readonly string[]) => void,
    warn: (message: string) => void,
  ) {
    this.#fileSystem = fileSystem;
    this.#changed = changed;
    this.#warn = warn;
  }

  /** Begins to listen. */
  start(): void {
    if (this.#state !== "idle" || this.#fileSystem.watch === undefined) return;
    this.#state = "on";
    this.#guard(async () => {
      const stop: unknown = await this.#fileSystem.watch?.((paths) => this.#take(paths));
      if (typeof stop !== "function") return;
      if (this.#state === "off") await stop();
      else this.#stop = stop;
    });
  }

  /** Ends it; what is told from then on is dropped. */
  stop(): void {
    this.#state = "off";
    const stop = this.#stop;
    this.#stop = undefined;
    if (typeof stop === "function") this.#guard(async () => stop());
  }

  /** Paths from the caller's code, which must not be harmed by being wrong. */
  #take(paths: unknown): void {
    if (this.#state !== "on") return;
    if (!Array.isArray(paths)) {
      this.#complain(`told ${show(paths)}, not an array of paths`);
      return;
    }
    const good: string[] = [];
    for (const path of paths as unknown[]) {
      if (typeof path !== "string" && !(path instanceof Uint8Array)) {
        this.#complain(`told ${show(path)} as a path`);
        continue;
      }
      const raw = binary(path as PathLike);
      if (isPath(raw)) good.push(raw);
      else
        this.#complain(`told '${lossy(raw.slice(0, 100))}', not an absolute path in normal form`);
    }
    if (good.length > 0) this.#changed(good);
  }

  #guard(call: () => Promise<unknown>): void {
    call().catch((error) => this.#complain(`threw ${describe(error)}`));
  }

  /** Warns, once. */
  #complain(what: string): void {
    if (this.#warned) return;
    this.#warned = true;
    this.#warn(`The watch of a mount's file system ${what}`);
  }
}

function isPath(raw: string): boolean {
  try {
    partsOf(raw);
    return true;
  } catch {
    return false;
  }
}
