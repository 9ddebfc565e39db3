// The host's side of a ServeFilesystem call, in the same process: it asks what a test tells it to.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type FilesystemAnswer,
  FilesystemCallSchema,
  type FilesystemService,
  type ServeFilesystemRequest,
  type ServeFilesystemResponse,
  ServeFilesystemResponseSchema,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { planMounts } from "../mounts/boot-mounts.js";
import type { Mount } from "../mounts/mount.js";
import { MountServer } from "../mounts/mount-server.js";

type Question = NonNullable<MessageInitShape<typeof FilesystemCallSchema>["call"]>;

/** A question that was put. */
export interface Asked {
  readonly id: bigint;
  /** The whole answer; of a list the last piece, with the entries of all. */
  readonly answer: Promise<FilesystemAnswer>;
}

/** A host with one mount. */
export class FakeHost {
  readonly server: MountServer;
  readonly warnings: string[] = [];
  /** Paths that were told to have changed. */
  readonly changed: string[] = [];
  /** Messages that came for answers, and their number of entries. */
  readonly pieces: number[] = [];
  /** Answers to questions that were answered already, or never put. */
  readonly stray: bigint[] = [];
  #responses: ServeFilesystemResponse[] = [];
  #wake: () => void = () => undefined;
  #failure: Error | undefined;
  #ended = false;
  #nextId = 1n;
  #credits = 0;
  readonly #open = new Map<bigint, (answer: FilesystemAnswer) => void>();

  constructor(mount: Mount) {
    const [planned] = planMounts([["/mnt", mount]]);
    if (planned?.served === undefined) throw new Error("This mount has no callbacks");
    const serveFilesystem: Client<typeof FilesystemService>["serveFilesystem"] = (
      messages,
      options,
    ) => {
      options?.signal?.addEventListener("abort", () => this.end(new Error("canceled")));
      void this.#read(messages as AsyncIterable<ServeFilesystemRequest>);
      return this.#write();
    };
    const warn = (message: string) => this.warnings.push(message);
    this.server = new MountServer({ serveFilesystem }, { ...planned.served, warn });
  }

  /** Puts a question. */
  ask(path: string | Uint8Array, call: Question): Asked {
    const id = this.#nextId++;
    const answer = new Promise<FilesystemAnswer>((resolve) => this.#open.set(id, resolve));
    if (this.#open.size > this.#credits) throw new Error("There is no credit left");
    const value = create(FilesystemCallSchema, { id, path: Buffer.from(path as string), call });
    this.#respond({ case: "call", value });
    return { id, answer };
  }

  /** Takes back a question. */
  cancel({ id }: Asked): void {
    this.#respond({ case: "cancel", value: { $typeName: "lanebox.v1.CancelFilesystemCall", id } });
  }

  /** Ends the call. */
  end(failure?: Error): void {
    this.#failure ??= failure;
    this.#ended = true;
    this.#wake();
  }

  #respond(response: ServeFilesystemResponse["response"]): void {
    this.#responses.push(create(ServeFilesystemResponseSchema, { response }));
    this.#wake();
  }

  async *#write(): AsyncGenerator<ServeFilesystemResponse> {
    for (;;) {
      const response = this.#responses.shift();
      if (response !== undefined) yield response;
      else if (this.#failure !== undefined) throw this.#failure;
      else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  async #read(messages: AsyncIterable<ServeFilesystemRequest>): Promise<void> {
    const listed = new Map<bigint, FilesystemAnswer>();
    for await (const { request } of messages) {
      if (request.case === "attach") {
        this.#credits = request.value.credits;
        this.#respond({ case: "attached", value: { $typeName: "lanebox.v1.FilesystemAttached" } });
      } else if (request.case === "changed") {
        this.changed.push(...request.value.paths.map((path) => Buffer.from(path).toString()));
      } else if (request.case === "answer") {
        this.#take(request.value, listed);
      }
    }
  }

  #take(answer: FilesystemAnswer, listed: Map<bigint, FilesystemAnswer>): void {
    const resolve = this.#open.get(answer.id);
    if (resolve === undefined) {
      this.stray.push(answer.id);
      return;
    }
    const { answer: got } = answer;
    if (got.case === "entries") {
      this.pieces.push(got.value.entries.length);
      const before = listed.get(answer.id)?.answer;
      if (before?.case === "entries") got.value.entries.unshift(...before.value.entries);
      listed.set(answer.id, answer);
      if (got.value.more) return;
    }
    this.#open.delete(answer.id);
    resolve(answer);
  }
}
