import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../testing/random.js";
import { Budget } from "./budget.js";
import { Content, SIZE_MAX } from "./content.js";

const KIB = 1024;
const MIB = 1024 * KIB;

function errno(name: string): (error: unknown) => boolean {
  return (error) => {
    assert.equal((error as { errno?: string }).errno, name);
    return true;
  };
}

for (const seed of [1, 2, 3, 4]) {
  test(`content is what a plain buffer would be, and gives back all that it held (seed ${seed})`, () => {
    const random = new Random(seed);
    const budget = new Budget(64 * MIB, 1);
    const content = new Content(budget);
    let plain = Buffer.alloc(0);
    const offset = () => random.of(0, 1, 4095, 4096, 65535, 65536, 131072, random.below(300_000));
    for (let step = 0; step < 400; step++) {
      const where = `seed ${seed}, step ${step}`;
      const at = offset();
      if (random.below(4) > 0) {
        const bytes = Buffer.alloc(random.of(0, 1, 100, 5000, 70_000), 1 + random.below(255));
        const larger = Buffer.alloc(Math.max(plain.length, bytes.length && at + bytes.length));
        plain.copy(larger);
        bytes.copy(larger, at);
        plain = larger;
        assert.equal(content.write(at, bytes), bytes.length, where);
      } else {
        const cut = Buffer.alloc(at);
        plain.copy(cut);
        plain = cut;
        content.resize(at);
      }
      assert.equal(content.size, plain.length, where);
      const from = offset();
      const length = random.of(0, 1, 4096, 100_000);
      assert(content.read(from, length).equals(plain.subarray(from, from + length)), where);
    }
    assert(content.read(0, MIB).equals(plain));
    content.resize(0);
    assert.equal(budget.bytesFree, budget.maxBytes);
  });
}

test("holes are not held, however far apart the writes are", () => {
  const budget = new Budget(MIB, 1);
  const content = new Content(budget);
  content.resize(SIZE_MAX);
  assert.equal(budget.bytesFree, MIB);
  for (const at of [0, 5 * 2 ** 32 + 7, 2 ** 50]) content.write(at, Buffer.from("x"));
  assert(MIB - budget.bytesFree <= 3 * 4096);
  assert.deepEqual(content.read(2 ** 50 - 1, 3), Buffer.from([0, 120, 0]));
  assert.throws(() => content.write(SIZE_MAX, Buffer.from("x")), errno("EFBIG"));
  assert.throws(() => content.resize(SIZE_MAX + 1), errno("EFBIG"));
  content.resize(1);
  assert.equal(MIB - budget.bytesFree, 1);
});

test("a write that finds no room is ENOSPC, one that finds some is short, and both harm nothing", () => {
  const budget = new Budget(100 * KIB, 1);
  const content = new Content(budget);
  assert.equal(content.write(0, Buffer.alloc(64 * KIB, "a")), 64 * KIB);
  assert.throws(() => content.write(64 * KIB, Buffer.alloc(64 * KIB, "b")), errno("ENOSPC"));
  assert.equal(content.size, 64 * KIB);
  assert.equal(content.write(0, Buffer.alloc(128 * KIB, "c")), 64 * KIB);
  assert.equal(content.write(64 * KIB, Buffer.alloc(36 * KIB, "d")), 36 * KIB);
  assert.equal(budget.bytesFree, 0);
  assert.equal(content.read(0, MIB).toString(), "c".repeat(64 * KIB) + "d".repeat(36 * KIB));
});

test("what fits exactly fits, in pieces of any size", () => {
  const budget = new Budget(10 * KIB, 1);
  const content = new Content(budget);
  for (let i = 0; i < 10; i++) assert.equal(content.write(i * KIB, Buffer.alloc(KIB, 1)), KIB);
  assert.equal(budget.bytesFree, 0);
  assert.throws(() => content.write(10 * KIB, Buffer.alloc(1)), errno("ENOSPC"));
});

test("a write copies no more than the pieces that it touches", () => {
  const budget = new Budget(2 ** 40, 1);
  const content = new Content(budget);
  content.write(0, Buffer.alloc(32 * MIB, 1));
  const held = budget.bytesFree;
  for (let i = 0; i < 1000; i++) content.write(i * 32_000, Buffer.alloc(1, 2));
  assert.equal(budget.bytesFree, held, "nothing new is held");
  content.write(32 * MIB, Buffer.alloc(1, 3));
  assert.equal(held - budget.bytesFree, 4096, "one step for the byte beyond");
});
