import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { HttpHeaderSchema } from "../gen/lanebox/v1/network_pb.js";
import { headersOf, wireHeaders } from "./headers.js";

function headers(...fields: [string, string][]) {
  return headersOf(
    fields.map(([name, value]) =>
      create(HttpHeaderSchema, { name, value: Buffer.from(value, "latin1") }),
    ),
  );
}

test("headers read like those of fetch", () => {
  const given = headers(["accept", "a"], ["cookie", "x=1"], ["accept", "b"], ["cookie", "y=2"]);
  assert.equal(given.get("Accept"), "a, b");
  assert.equal(given.get("cookie"), "x=1; y=2");
  assert.equal(given.get("x-none"), null);
  assert(given.has("ACCEPT") && !given.has("x-none"));
  assert.deepEqual(given.getAll("accept"), ["a", "b"]);
});

test("order and duplicates stay as they are", () => {
  const given = headers(["b", "1"], ["a", "2"], ["b", "3"]);
  assert.deepEqual(
    [...given],
    [
      ["b", "1"],
      ["a", "2"],
      ["b", "3"],
    ],
  );
  assert.deepEqual([...given.keys()], ["b", "a", "b"]);
  assert.deepEqual([...given.values()], ["1", "2", "3"]);
  given.append("A", " 4\t");
  given.set("b", "5");
  given.set("c", "6");
  assert.deepEqual(
    [...given.entries()],
    [
      ["b", "5"],
      ["a", "2"],
      ["a", "4"],
      ["c", "6"],
    ],
  );
  given.delete("A");
  assert.deepEqual([...given.keys()], ["b", "c"]);
});

test("a loop over headers may change them", () => {
  const given = headers(["a", "1"], ["b", "2"]);
  for (const [name] of given) given.delete(name);
  assert.deepEqual([...given], []);
});

test("all bytes that can stand in a header survive the way there and back", () => {
  let value = "x";
  for (let byte = 0x21; byte < 0x100; byte++) if (byte !== 0x7f) value += String.fromCharCode(byte);
  const given = headers(["a", value]);
  assert.equal(given.get("a"), value);
  const [sent] = wireHeaders(given);
  assert.equal(Buffer.from(sent?.value ?? []).toString("latin1"), value);
  given.set("a", value);
  assert.equal(given.get("a"), value);
});

for (const value of ["a\r\nb", "a\nb", "a\0b", "a\x7fb", "Ā", "😀", 7, undefined]) {
  test(`${JSON.stringify(value)} is no value, and is not shown`, () => {
    const given = headers();
    assert.throws(() => given.set("x-a", value as string), /^SandboxError: header x-a: expected/);
  });
}

for (const name of ["", "a b", "a:", "ä", "a\n", 7, "x".repeat(257)]) {
  test(`${JSON.stringify(name)} is no name`, () => {
    const given = headers();
    assert.throws(() => given.append(name as string, "x"), /header name: expected a token/);
    assert.throws(() => given.get(name as string), /header name/);
  });
}
