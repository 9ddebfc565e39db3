// One mount served to one VM: the ServeFilesystem call of lanebox.v1.FilesystemService.
//
//   host ── call ──► Questioner ──► the file system's method ──► checked answer ── Outbox ──► host
//        ── cancel ► the method's signal fires; its credit is held until it settles
//
// Questions are put as they come and answered as they are ready. Whatever the methods do, nothing
// here throws or rejects: what is wrong becomes an answer, and after the end, nothing.
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type FilesystemAnswer,
  FilesystemAnswerSchema,
  type FilesystemCall,
  type FilesystemService,
  type ServeFilesystemResponse,
} from "../gen/lanebox/v1/filesystem_pb.js";
import type { FilesystemFeature } from "../gen/lanebox/v1/mount_pb.js";
import { deferred } from "../wait.js";
import { type Answer, describe, WrongAnswer } from "./answers.js";
import { ChangeFeed } from "./change-feed.js";
import { errnoOf } from "./errno.js";
import { pieces } from "./listing.js";
import { Outbox } from "./outbox.js";
import { type Listing, Questioner } from "./questions.js";
import type { AnyFileSystem } from "./served.js";

/** Questions that may be unanswered at a time. Each may hold 1 MiB. */
export const CREDITS = 128;
/** Characters of a problem's text; the protocol has room for 1 KiB. */
const PROBLEM_MAX = 250;

/** What is served. */
export interface ServedMount {
  /** Its number in this boot, as text. */
  readonly id: string;
  readonly fileSystem: AnyFileSystem;
  readonly features: readonly FilesystemFeature[];
  /** Gets what its owner should know and no file operation tells. */
  readonly warn: (message: string) => void;
}

/** Serves one mount to one VM. */
export class MountServer {
  /** Resolves when the host has taken the mount; rejects with the call's error when it does not. */
  readonly attached: Promise<void>;
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  readonly #questioner: Questioner;
  readonly #outbox: Outbox;
  readonly #open = new Map<bigint, AbortController>();
  readonly #call = new AbortController();
  readonly #feed: ChangeFeed;
  readonly #taken = deferred<void>();

  constructor(client: Client<typeof FilesystemService>, mount: ServedMount) {
    const { id, fileSystem, features, warn } = mount;
    this.#questioner = new Questioner(fileSystem, features);
    const attach = { $typeName: "lanebox.v1.AttachFilesystem" as const, id, credits: CREDITS };
    this.#outbox = new Outbox({ case: "attach", value: attach });
    this.#feed = new ChangeFeed(fileSystem, (paths) => this.#outbox.changed(paths), warn);
    const stream = this.#follow(client);
    this.done = stream.catch(() => undefined);
    this.attached = Promise.race([this.#taken.promise, stream.then(ended)]);
    this.attached.catch(() => undefined);
  }

  /** Ends the stream. The file system's methods that are under way see their signals fire. */
  end(): void {
    this.#call.abort();
    this.#outbox.close();
  }

  async #follow(client: Client<typeof FilesystemService>): Promise<void> {
    const messages = this.#outbox.messages();
    try {
      const responses = client.serveFilesystem(messages, { signal: this.#call.signal });
      for await (const response of responses) this.#take(response);
    } finally {
      this.end();
      this.#feed.stop();
      for (const question of this.#open.values()) question.abort();
      this.#open.clear();
    }
  }

  #take({ response }: ServeFilesystemResponse): void {
    switch (response.case) {
      case "attached":
        this.#taken.resolve();
        this.#feed.start();
        break;
      case "call":
        void this.#serve(response.value); // never rejects
        break;
      case "cancel":
        this.#open.get(response.value.id)?.abort();
        break;
    }
  }

  async #serve(question: FilesystemCall): Promise<void> {
    const { id } = question;
    const control = new AbortController();
    this.#open.set(id, control);
    try {
      const answer = await this.#questioner.ask(question, control.signal);
      if (answer.case === "listing") await this.#sendListing(id, answer, control.signal);
      else this.#send(id, control.signal.aborted ? LATE : answer);
    } catch (error) {
      const [answer, problem] = control.signal.aborted ? [LATE] : failure(question, error);
      this.#send(id, answer, problem);
    } finally {
      this.#open.delete(id);
    }
  }

  #send(id: bigint, answer: Answer, problem = ""): Promise<void> {
    return this.#outbox.answer(answerOf(id, answer, problem));
  }

  async #sendListing(id: bigint, { entries }: Listing, signal: AbortSignal): Promise<void> {
    for await (const piece of pieces(entries)) {
      if (signal.aborted) {
        this.#send(id, LATE);
        return;
      }
      const value = { $typeName: "lanebox.v1.DirectoryEntries" as const, ...piece };
      await this.#send(id, { case: "entries", value });
    }
  }
}

/** The answer to a question that nobody waits for: it gives the credit back. */
const LATE: Answer = { case: "errno", value: "ETIMEDOUT" };

function answerOf(id: bigint, answer: Answer, problem: string): FilesystemAnswer {
  return create(FilesystemAnswerSchema, { id, answer, problem });
}

/** What a method that failed is answered with, and the problem when that is not what a file operation ends with. */
function failure({ call }: FilesystemCall, error: unknown): [Answer, string?] {
  const errno = error instanceof WrongAnswer ? undefined : errnoOf(error);
  if (errno !== undefined) return [{ case: "errno", value: errno }];
  const wrong = error instanceof WrongAnswer;
  const what = wrong ? `answered wrongly: ${error.message}` : `threw ${describe(error)}`;
  const problem = `${call.case} ${what}`.slice(0, PROBLEM_MAX).toWellFormed();
  return [{ case: "errno", value: "EIO" }, problem];
}

function ended(): never {
  throw new Error("The helper ended the stream of a mount before it took it");
}
