// One block store served to one VM: the ServeBlockStore call of lanebox.v1.BlockStoreService. Whatever
// the store's methods do, what is wrong becomes an answer, and after the end, nothing.
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { CallbackStream } from "../callbacks/callback-stream.js";
import { Outbox } from "../callbacks/outbox.js";
import {
  AttachBlockStoreSchema,
  type BlockStoreCall,
  type BlockStoreService,
  type ServeBlockStoreRequest,
  ServeBlockStoreRequestSchema,
} from "../gen/lanebox/v1/block_store_pb.js";
import { describe } from "../mounts/answers.js";
import type { SandboxBlockStore } from "./block-store.js";
import { chunksAnswer, DONE, numberPieces, type StoreAnswer } from "./store-answers.js";

/** Questions that may be unanswered at a time. */
const CREDITS = 64;
/** Characters of an error's text; the protocol has room for 1 KiB. */
const ERROR_MAX = 250;

/** What is served. */
export interface ServedStore {
  /** Its name in this boot. */
  readonly id: string;
  readonly store: SandboxBlockStore;
}

/** Serves one block store to one VM. */
export class StoreServer {
  /** Resolves when the host has taken the store; rejects with the call's error when it does not. */
  readonly attached: Promise<void>;
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  readonly #store: SandboxBlockStore;
  readonly #blockSize: number;
  readonly #outbox: Outbox<ServeBlockStoreRequest>;
  readonly #stream: CallbackStream<ServeBlockStoreRequest, BlockStoreCall>;

  constructor(client: Client<typeof BlockStoreService>, { id, store }: ServedStore) {
    this.#store = store;
    this.#blockSize = store.blockSize;
    const value = create(AttachBlockStoreSchema, {
      id,
      credits: CREDITS,
      blockSize: store.blockSize,
      flushes: store.flush !== undefined,
      discards: store.discard !== undefined,
    });
    this.#outbox = new Outbox(
      create(ServeBlockStoreRequestSchema, { request: { case: "attach", value } }),
    );
    this.#stream = new CallbackStream<ServeBlockStoreRequest, BlockStoreCall>(
      client.serveBlockStore.bind(client),
      this.#outbox,
      {
        what: "a block store",
        serve: (call, signal) => this.#serve(call, signal),
      },
    );
    this.done = this.#stream.done;
    this.attached = this.#stream.attached;
  }

  /** Ends the stream. The store's methods that are under way see their signals fire. */
  end(): void {
    this.#stream.end();
  }

  async #serve(question: BlockStoreCall, signal: AbortSignal): Promise<void> {
    const { id, base, generation, call } = question;
    const context = { base, generation, signal };
    try {
      if (call.case === "list") {
        const pieces = numberPieces(await this.#store.list(context));
        for (const piece of pieces) {
          await this.#send(id, piece);
          await new Promise(setImmediate);
        }
      } else await this.#send(id, await this.#ask(call, context));
    } catch (error) {
      const text = `${call.case} failed: ${describe(error)}`.slice(0, ERROR_MAX).toWellFormed();
      await this.#send(id, { case: "error", value: text });
    }
  }

  async #ask(
    call: BlockStoreCall["call"],
    context: Parameters<SandboxBlockStore["list"]>[0],
  ): Promise<StoreAnswer> {
    switch (call.case) {
      case "read": {
        const { start, count } = call.value;
        const found = await this.#store.read({ start, count }, context);
        return chunksAnswer(found, this.#blockSize, count);
      }
      case "write":
        await this.#store.write(
          call.value.chunks.map(({ start, data }) => ({ start, data })),
          context,
        );
        return DONE;
      case "flush":
        await this.#store.flush?.(context);
        return DONE;
      case "discard":
        if (this.#store.discard === undefined) throw new Error("the store does not discard");
        await this.#store.discard(call.value.blocks, context);
        return DONE;
      default:
        throw new Error("a question that this version does not know");
    }
  }

  #send(id: bigint, answer: StoreAnswer): Promise<void> {
    const value = { $typeName: "lanebox.v1.BlockStoreAnswer" as const, id, answer };
    return this.#outbox.send(
      create(ServeBlockStoreRequestSchema, { request: { case: "answer", value } }),
    );
  }
}
