import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type BlockStoreAnswer,
  type BlockStoreCall,
  BlockStoreCallSchema,
  type BlockStoreService,
  type ServeBlockStoreRequest,
  type ServeBlockStoreResponse,
  ServeBlockStoreResponseSchema,
} from "../gen/lanebox/v1/block_store_pb.js";
import { deferred } from "../wait.js";
import type { SandboxBlockContext, SandboxBlockStore } from "./block-store.js";
import { StoreServer } from "./store-server.js";

/** A host that asks what a test tells it to. */
class Host {
  readonly server: StoreServer;
  attach: ServeBlockStoreRequest["request"] | undefined;
  readonly answers: BlockStoreAnswer[] = [];
  #said: ServeBlockStoreResponse[] = [];
  #wake = deferred<void>();
  #heard = deferred<void>();
  #nextId = 1n;
  #ended = false;

  constructor(store: SandboxBlockStore) {
    const serveBlockStore: Client<typeof BlockStoreService>["serveBlockStore"] = (
      messages,
      options,
    ) => {
      options?.signal?.addEventListener("abort", () => {
        this.#ended = true;
        this.#wake.resolve();
      });
      void this.#listen(messages as AsyncIterable<ServeBlockStoreRequest>);
      return this.#speak();
    };
    this.server = new StoreServer({ serveBlockStore }, { id: "root", store });
  }

  say(response: ServeBlockStoreResponse["response"]): void {
    this.#said.push(create(ServeBlockStoreResponseSchema, { response }));
    this.#wake.resolve();
  }

  /** Asks; resolves with all pieces of the answer. */
  async ask(call: BlockStoreCall["call"]): Promise<BlockStoreAnswer["answer"][]> {
    const id = this.#nextId++;
    const asked = { id, base: "sha256:b", generation: 7n, call };
    this.say({ case: "call", value: create(BlockStoreCallSchema, asked) });
    for (;;) {
      const pieces = this.answers.filter((answer) => answer.id === id).map(({ answer }) => answer);
      const last = pieces.at(-1);
      if (last !== undefined && !(last.case === "numbers" && last.value.more)) return pieces;
      await this.#heard.promise;
    }
  }

  async #listen(messages: AsyncIterable<ServeBlockStoreRequest>): Promise<void> {
    for await (const { request } of messages) {
      if (request.case === "answer") this.answers.push(request.value);
      else this.attach = request;
      const heard = this.#heard;
      this.#heard = deferred();
      heard.resolve();
    }
  }

  async *#speak(): AsyncGenerator<ServeBlockStoreResponse> {
    yield create(ServeBlockStoreResponseSchema, {
      response: { case: "attached", value: { $typeName: "lanebox.v1.BlockStoreAttached" } },
    });
    while (!this.#ended) {
      yield* this.#said.splice(0);
      await this.#wake.promise;
      this.#wake = deferred();
    }
  }
}

const LIST = { case: "list", value: { $typeName: "lanebox.v1.ListBlocksCall" } } as const;
const FLUSH = { case: "flush", value: { $typeName: "lanebox.v1.FlushBlocksCall" } } as const;
const read = (start: bigint, count: number) =>
  ({ case: "read", value: { $typeName: "lanebox.v1.ReadBlocksCall", start, count } }) as const;

function plain(change: Partial<SandboxBlockStore> = {}): SandboxBlockStore {
  return {
    blockSize: 512,
    list: async () => [],
    read: async ({ start, count }) => [{ start, data: new Uint8Array(count * 512) }],
    write: async () => undefined,
    ...change,
  };
}

async function withHost(store: SandboxBlockStore, work: (host: Host) => Promise<void>) {
  const host = new Host(store);
  await host.server.attached;
  try {
    await work(host);
  } finally {
    host.server.end();
    await host.server.done;
  }
}

test("a store is attached with what it can do, and asked with its context", async () => {
  const contexts: SandboxBlockContext[] = [];
  const store = plain({
    list: async (context) => {
      contexts.push(context);
      return [3n, 1n];
    },
    flush: async () => undefined,
  });
  await withHost(store, async (host) => {
    const [answer] = await host.ask(LIST);
    assert.deepEqual(answer?.case === "numbers" && answer.value.blocks, [3n, 1n]);
    assert.equal((await host.ask(FLUSH))[0]?.case, "done");
    const { attach } = host;
    assert(attach?.case === "attach");
    const { blockSize, flushes, discards } = attach.value;
    assert.deepEqual([blockSize, flushes, discards], [512, true, false]);
  });
  assert.deepEqual(
    contexts.map(({ base, generation }) => [base, generation]),
    [["sha256:b", 7n]],
  );
});

test("a long list is sent in pieces", async () => {
  const blocks = Array.from({ length: 40_000 }, (_, index) => BigInt(index));
  await withHost(plain({ list: async () => blocks }), async (host) => {
    const pieces = await host.ask(LIST);
    const sent = pieces.flatMap((piece) => (piece.case === "numbers" ? piece.value.blocks : []));
    assert(pieces.length > 1);
    assert.deepEqual(sent, blocks);
  });
});

const lies: [string, Partial<SandboxBlockStore>, BlockStoreCall["call"], RegExp][] = [
  ["lists no array", { list: async () => 7 as unknown as bigint[] }, LIST, /not an array/],
  ["lists text", { list: async () => ["1"] as unknown as bigint[] }, LIST, /number of a block/],
  ["throws", { list: () => Promise.reject(new Error("no bucket")) }, LIST, /no bucket/],
  [
    "throws before it waits",
    {
      list: () => {
        throw "at once";
      },
    },
    LIST,
    /at once/,
  ],
  [
    "reads too much",
    { read: async () => [{ start: 0n, data: new Uint8Array(4096) }] },
    read(0n, 1),
    /more than the 512 bytes/,
  ],
  ["reads nothing of the kind", { read: async () => [null as never] }, read(0n, 1), /number of/],
  [
    "reads text",
    { read: async () => [{ start: 0n, data: "x" as unknown as Uint8Array }] },
    read(0n, 1),
    /as data/,
  ],
];
for (const [what, change, call, message] of lies) {
  test(`a store that ${what} has failed, and is asked again`, async () => {
    await withHost(plain(change), async (host) => {
      for (const _ of [1, 2]) {
        const [answer] = await host.ask(call);
        assert.equal(answer?.case, "error");
        assert.match(String(answer?.value), message);
      }
    });
  });
}

test("a call that nobody waits for sees its signal fire, as do all at the end", async () => {
  const signals: AbortSignal[] = [];
  const hanging = (_: unknown, { signal }: SandboxBlockContext) => {
    signals.push(signal);
    return new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
    });
  };
  await withHost(plain({ read: hanging }), async (host) => {
    const first = host.ask(read(0n, 1));
    void host.ask(read(1n, 1));
    while (signals.length < 2) await new Promise(setImmediate);
    host.say({ case: "cancel", value: { $typeName: "lanebox.v1.CancelBlockStoreCall", id: 1n } });
    assert.equal((await first)[0]?.case, "error");
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true, false],
    );
  });
  assert(signals[1]?.aborted);
});
