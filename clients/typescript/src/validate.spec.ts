import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { SandboxError } from "./errors.js";
import {
  abortSignal,
  absolutePath,
  type Check,
  environment,
  hostname,
  integer,
  list,
  object,
  oneOf,
  text,
  withDefault,
} from "./validate.js";

function refusal(check: Check<unknown>, value: unknown): string {
  try {
    check(value, "options.it");
  } catch (error) {
    assert(error instanceof SandboxError);
    assert.equal(error.code, "invalid-argument");
    assert.match(error.message, /^options\.it/);
    return error.message;
  }
  return assert.fail(`${inspect(value)} was accepted`);
}

const table: [string, Check<unknown>, unknown[], unknown[]][] = [
  [
    "absolute path",
    absolutePath,
    ["/", "/a", "/a/b.c", "/..a", "/ä", "/a b"],
    [
      "",
      "a",
      "./a",
      "//",
      "//a",
      "/a/",
      "/a//b",
      "/a/./b",
      "/..",
      "/a/..",
      "/a\0b",
      "/\ud800",
      1,
      null,
    ],
  ],
  [
    "hostname",
    hostname,
    ["a", "sandbox", "a-b.c9", "A1", "1", "a".repeat(63)],
    [
      "",
      "-a",
      "a-",
      "a..b",
      ".a",
      "a.",
      "a_b",
      "ä",
      "a b",
      "a".repeat(64),
      `${"a.".repeat(32)}b`,
      3,
    ],
  ],
  ["integer", integer(1, 64), [1, 64], [0, 65, 1.5, -1, Number.NaN, Infinity, "4", 4n, null, true]],
  ["text", text, ["", "a\nb", "😀"], ["a\0", "\ud800", "\udc00x", 1, null, Buffer.from("a")]],
  ["one of", oneOf("a", "b"), ["a", "b"], ["c", "", "A", null, 1]],
  [
    "list",
    list(text),
    [[], ["a"]],
    ["a", { 0: "a", length: 1 }, [1], [undefined], null, new Array(1)],
  ],
  [
    "signal",
    abortSignal,
    [new AbortController().signal, AbortSignal.abort()],
    [new AbortController(), {}, null, "abort", { aborted: false }],
  ],
];

for (const [name, check, good, bad] of table) {
  test(`${name}: what is well-formed passes unchanged`, () => {
    for (const value of good) assert.deepEqual(check(value, "options.it"), value);
  });
  test(`${name}: what is ill-formed is refused and named`, () => {
    for (const value of bad) refusal(check, value);
  });
}

test("an unknown option is refused by its path, and names of Object.prototype are unknown too", () => {
  const check = object({ inner: object({ known: text }) });
  const unknown = { inner: { known: "a", other: 1 } };
  assert.match(
    refusal(check, unknown),
    /^options\.it\.inner\.other: unknown option \(known here: known\)/,
  );
  const hostile = JSON.parse('{"inner":{"known":"a"},"__proto__":{"a":1}}');
  assert.match(refusal(check, hostile), /__proto__/);
  assert.match(refusal(check, { inner: { known: "a" }, constructor: 1 }), /constructor/);
});

test("undefined is absent, null is not", () => {
  const check = object({ cpus: withDefault(integer(1, 4), 2) });
  assert.deepEqual(check(undefined, "o"), { cpus: 2 });
  assert.deepEqual(check({ cpus: undefined }, "o"), { cpus: 2 });
  refusal(check, null);
  refusal(check, { cpus: null });
  refusal(check, []);
});

test("the message names the value, shortened", () => {
  assert.match(refusal(integer(1, 64), "many"), /expected an integer from 1 to 64, got 'many'/);
  assert(refusal(oneOf("a"), "x".repeat(10_000)).length < 400);
});

test("environment leaves out undefined and keeps odd names", () => {
  const given = { A: "1", B: undefined, "a.b": "", ["__proto__"]: "p" };
  assert.deepEqual(Object.entries(environment(given, "options.env")), [
    ["A", "1"],
    ["a.b", ""],
    ["__proto__", "p"],
  ]);
});

test("environment refuses bad names and values without showing a value", () => {
  for (const name of ["", "A=B", "A\0", "\ud800"]) refusal(environment, { [name]: "x" });
  for (const value of ["hunter2\0", "hunter2\ud800", 5, null, ["hunter2"]]) {
    const message = refusal(environment, { KEY: value });
    assert.match(message, /KEY/);
    assert.doesNotMatch(message, /hunter2/);
  }
  refusal(environment, ["A=1"]);
  refusal(environment, null);
});
