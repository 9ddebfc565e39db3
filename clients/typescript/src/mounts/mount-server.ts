// One mount served to one VM: the ServeFilesystem call of lanebox.v1.FilesystemService. Whatever the
// file system's methods do, what is wrong becomes an answer, and after the end, nothing.
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { CallbackStream } from "../callbacks/callback-stream.js";
import { Outbox } from "../callbacks/outbox.js";
import {
  type FilesystemAnswer,
  FilesystemAnswerSchema,
  type FilesystemCall,
  type FilesystemService,
  type ServeFilesystemRequest,
  ServeFilesystemRequestSchema,
} from "../gen/lanebox/v1/filesystem_pb.js";
import type { FilesystemFeature } from "../gen/lanebox/v1/mount_pb.js";
import { type Answer, describe, WrongAnswer } from "./answers.js";
import { ChangeFeed } from "./change-feed.js";
import { ChangeQueue } from "./change-queue.js";
import { errnoOf } from "./errno.js";
import { pieces } from "./listing.js";
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
  readonly #outbox: Outbox<ServeFilesystemRequest>;
  readonly #stream: CallbackStream<ServeFilesystemRequest, FilesystemCall>;

  constructor(client: Client<typeof FilesystemService>, mount: ServedMount) {
    const { id, fileSystem, features, warn } = mount;
    this.#questioner = new Questioner(fileSystem, features);
    const changes = new ChangeQueue();
    const attach = { $typeName: "lanebox.v1.AttachFilesystem" as const, id, credits: CREDITS };
    const first = create(ServeFilesystemRequestSchema, {
      request: { case: "attach", value: attach },
    });
    this.#outbox = new Outbox(first, () => changes.take());
    const feed = new ChangeFeed(
      fileSystem,
      (paths) => {
        changes.add(paths);
        this.#outbox.wake();
      },
      warn,
    );
    this.#stream = new CallbackStream<ServeFilesystemRequest, FilesystemCall>(
      client.serveFilesystem.bind(client),
      this.#outbox,
      {
        what: "a mount",
        serve: (call, signal) => this.#serve(call, signal),
        taken: () => feed.start(),
        ended: () => feed.stop(),
      },
    );
    this.done = this.#stream.done;
    this.attached = this.#stream.attached;
  }

  /** Ends the stream. The file system's methods that are under way see their signals fire. */
  end(): void {
    this.#stream.end();
  }

  async #serve(question: FilesystemCall, signal: AbortSignal): Promise<void> {
    const { id } = question;
    try {
      const answer = await this.#questioner.ask(question, signal);
      if (answer.case === "listing") await this.#sendListing(id, answer, signal);
      else this.#send(id, signal.aborted ? LATE : answer);
    } catch (error) {
      const [answer, problem] = signal.aborted ? [LATE] : failure(question, error);
      this.#send(id, answer, problem);
    }
  }

  #send(id: bigint, answer: Answer, problem = ""): Promise<void> {
    const value = answerOf(id, answer, problem);
    return this.#outbox.send(
      create(ServeFilesystemRequestSchema, { request: { case: "answer", value } }),
    );
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
