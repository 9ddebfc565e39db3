// Checks of what callers (and descriptor files) give. A check takes a value and the path that names
// it, such as "options.resources.cpus", and returns the value with its type known, or throws a
// SandboxError "invalid-argument" that names the path and the value. `undefined` means absent.
import { inspect } from "node:util";
import { SandboxError } from "./errors.js";

/** A check: the typed value, or a thrown error. */
export type Check<T> = (value: unknown, path: string) => T;

type Checked<F extends Record<string, Check<unknown>>> = { [K in keyof F]: ReturnType<F[K]> };

/** The error for a value that is not what it should be. */
export function invalid(path: string, expected: string, value: unknown): SandboxError {
  return invalidUnseen(path, `expected ${expected}, got ${show(value)}`);
}

/** The same for a value that must not be shown, because it may be a credential. */
export function invalidUnseen(path: string, problem: string): SandboxError {
  return new SandboxError("invalid-argument", `${path}: ${problem}`);
}

function show(value: unknown): string {
  const text = inspect(value, {
    depth: 1,
    maxStringLength: 100,
    maxArrayLength: 5,
    breakLength: Infinity,
  });
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** An object with these fields and no others; an absent object is an empty one. */
export function object<F extends Record<string, Check<unknown>>>(fields: F): Check<Checked<F>> {
  return (value, path) => {
    const given = value === undefined ? {} : value;
    if (typeof given !== "object" || given === null || Array.isArray(given)) {
      throw invalid(path, "an object", value);
    }
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(fields, key)) {
        const known = Object.keys(fields).join(", ");
        throw invalidUnseen(`${path}.${key}`, `unknown option (known here: ${known})`);
      }
    }
    const result: Record<string, unknown> = {};
    for (const [key, check] of Object.entries(fields)) {
      result[key] = check((given as Record<string, unknown>)[key], `${path}.${key}`);
    }
    return result as Checked<F>;
  };
}

/** A value that may be absent. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

/** A value with a default for when it is absent. */
export function withDefault<T>(check: Check<T>, fallback: T): Check<T> {
  return (value, path) => (value === undefined ? fallback : check(value, path));
}

/** An integer within bounds, both included. */
export function integer(min: number, max: number): Check<number> {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      throw invalid(path, `an integer from ${min} to ${max}`, value);
    }
    return value;
  };
}

/** True or false. */
export const boolean: Check<boolean> = (value, path) => {
  if (typeof value !== "boolean") throw invalid(path, "true or false", value);
  return value;
};

/** One of a few strings. */
export function oneOf<const T extends string>(...values: readonly T[]): Check<T> {
  return (value, path) => {
    if (!values.includes(value as T)) {
      throw invalid(path, values.map((known) => `"${known}"`).join(" or "), value);
    }
    return value as T;
  };
}

/** A string that can go to the guest: valid Unicode without NUL. */
export const text: Check<string> = (value, path) => {
  if (typeof value !== "string") throw invalid(path, "a string", value);
  const problem = textProblem(value);
  if (problem !== undefined) throw invalid(path, `a string without ${problem}`, value);
  return value;
};

function textProblem(value: string): string | undefined {
  if (value.includes("\0")) return "NUL characters";
  if (!value.isWellFormed()) return "lone surrogates";
  return undefined;
}

/** A string that is not empty. */
export const nonEmptyText: Check<string> = (value, path) => {
  const checked = text(value, path);
  if (checked === "") throw invalid(path, "a string that is not empty", value);
  return checked;
};

/** A string of a given form. */
export function matching(pattern: RegExp, expected: string): Check<string> {
  return (value, path) => {
    const checked = text(value, path);
    if (!pattern.test(checked)) throw invalid(path, expected, value);
    return checked;
  };
}

/** A list. */
export function list<T>(check: Check<T>): Check<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw invalid(path, "an array", value);
    return Array.from(value, (item, index) => check(item, `${path}[${index}]`));
  };
}

/** One of something, or a list of `min` to `max` of it. */
export function oneOrMany<T>(check: Check<T>, max: number, min = 1): Check<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) return [check(value, path)];
    if (value.length < min || value.length > max) {
      throw invalidUnseen(path, `expected ${min} to ${max} of them, got ${value.length}`);
    }
    return list(check)(value, path);
  };
}

/** An object with any names and no class of its own. Values are not shown: they may be credentials. */
export const record: Check<Record<string, unknown>> = (value, path) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalidUnseen(path, "expected an object");
  }
  return value as Record<string, unknown>;
};

/** An absolute path in normal form: no empty, "." or ".." part, no slash at the end; "/" itself is one. */
export const absolutePath: Check<string> = (value, path) => {
  const checked = text(value, path);
  const parts = checked.split("/").slice(1);
  const normal = parts.every((part) => part !== "" && part !== "." && part !== "..");
  if (!checked.startsWith("/") || (checked !== "/" && !normal)) {
    throw invalid(path, "an absolute path in normal form", value);
  }
  return checked;
};

/** A host name: RFC 1123 labels, 64 bytes at most (Linux). */
export const hostname: Check<string> = (value, path) => {
  const checked = text(value, path);
  const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;
  if (checked.length > 64 || !checked.split(".").every((part) => label.test(part))) {
    throw invalid(path, "labels of letters, digits and dashes, 64 characters at most", value);
  }
  return checked;
};

/**
 * Environment variables. Those whose value is `undefined` are left out. Values are never shown in
 * errors, because they may be credentials.
 */
export const environment: Check<Record<string, string>> = (value, path) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalidUnseen(path, "expected an object of strings");
  }
  const result: [string, string][] = [];
  for (const [name, content] of Object.entries(value)) {
    const where = `${path}[${show(name)}]`;
    if (name === "" || name.includes("=") || textProblem(name) !== undefined) {
      throw invalidUnseen(
        where,
        'a name must not be empty and must not hold "=", NUL or lone surrogates',
      );
    }
    if (content === undefined) continue;
    if (typeof content !== "string")
      throw invalidUnseen(where, `expected a string, got ${typeof content}`);
    const problem = textProblem(content);
    if (problem !== undefined) throw invalidUnseen(where, `the value must not hold ${problem}`);
    result.push([name, content]);
  }
  return Object.fromEntries(result);
};

/** An AbortSignal. */
export const abortSignal: Check<AbortSignal> = (value, path) => {
  const signal = value as AbortSignal | null;
  if (
    typeof signal !== "object" ||
    typeof signal?.aborted !== "boolean" ||
    typeof signal.addEventListener !== "function"
  ) {
    throw invalid(path, "an AbortSignal", value);
  }
  return signal;
};

/** A function. */
export function callback<F>(): Check<F> {
  return (value, path) => {
    if (typeof value !== "function") throw invalid(path, "a function", value);
    return value as F;
  };
}
