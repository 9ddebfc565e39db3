import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestConsole } from "./console.js";
import { EventHub, type VmEvent } from "./events.js";

const step = (name: string): VmEvent => ({ type: "boot-step", step: name, at: 1 });

async function rest(events: AsyncIterable<VmEvent>): Promise<string[]> {
  const names: string[] = [];
  for await (const event of events) {
    if (event.type === "boot-step") names.push(event.step);
    else if (event.type === "warning") names.push(event.message);
    else if (event.type === "events-dropped") names.push(`dropped ${event.count}`);
  }
  return names;
}

test("every reader gets every event, and a late one begins with what was", async () => {
  const hub = new EventHub();
  const early = hub.read();
  hub.emit(step("a"));
  const late = hub.read();
  hub.emit(step("b"));
  hub.end();
  hub.emit(step("after the end"));
  assert.deepEqual(await rest(early), ["a", "b"]);
  assert.deepEqual(await rest(late), ["a", "b"]);
  assert.deepEqual(await rest(hub.read()), ["a", "b"]);
});

test("a reader that is too slow loses the oldest and is told how many", async () => {
  const hub = new EventHub();
  const reader = hub.read();
  for (let i = 0; i < 300; i++) hub.emit(step(`${i}`));
  hub.end();
  const names = await rest(reader);
  assert.equal(names.length, 257);
  assert.equal(names[0], "dropped 44");
  assert.equal(names[1], "44");
  assert.equal(names.at(-1), "299");
});

test("reads that wait side by side all end", async () => {
  const hub = new EventHub();
  const reader = hub.read();
  const reads = [reader.next(), reader.next(), reader.next()];
  hub.emit(step("a"));
  hub.end();
  const results = await Promise.all(reads);
  assert.deepEqual(
    results.map(({ done }) => done),
    [false, true, true],
  );
});

test("return ends a read that waits and frees the reader", async () => {
  const hub = new EventHub();
  const reader = hub.read();
  const waiting = reader.next();
  await reader.return?.();
  assert.equal((await waiting).done, true);
  hub.emit(step("a"));
  assert.equal((await reader.next()).done, true);
});

test("a console callback that throws or rejects costs nothing but a warning", async () => {
  const hub = new EventHub();
  const thrower = new GuestConsole(() => {
    throw new Error("no");
  }, hub);
  const rejecter = new GuestConsole(
    (async () => {
      throw new Error("later no");
    }) as () => void,
    hub,
  );
  thrower.write(Buffer.from("a"), 0n);
  rejecter.write(Buffer.from("b"), 7n);
  await new Promise(setImmediate);
  hub.end();
  assert.equal(thrower.tail, "a");
  assert.deepEqual(await rest(hub.read()), [
    "The console callback threw: no",
    "7 bytes of console output came too fast and were left out",
    "The console callback threw: later no",
  ]);
});

test("console text is whole across pieces, and what is kept is bounded", () => {
  const pieces: string[] = [];
  const console = new GuestConsole((text) => pieces.push(text), new EventHub());
  for (const byte of Buffer.from("ä€")) console.write(Uint8Array.of(byte), 0n);
  assert.deepEqual(pieces, ["ä", "€"]);
  for (let i = 0; i < 100; i++) console.write(Buffer.alloc(1000, "x"), 0n);
  assert.equal(console.tail.length, 16 * 1024);
});
