// The mounts of the stand-in for sandbox-host: it takes a mount, asks one question, and stays.
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ErrorCode } from "../gen/lanebox/v1/error_pb.js";
import {
  FilesystemCallSchema,
  type FilesystemService,
  type ServeFilesystemRequest,
  type ServeFilesystemResponse,
  ServeFilesystemResponseSchema,
} from "../gen/lanebox/v1/filesystem_pb.js";
import { type Fake, failure } from "./fake-helper.js";

function response(response: ServeFilesystemResponse["response"]): ServeFilesystemResponse {
  return create(ServeFilesystemResponseSchema, { response });
}

/** Serves mounts as the scenario says. */
export function fakeMounts({ scenario, note }: Fake): ServiceImpl<typeof FilesystemService> {
  return {
    async *serveFilesystem(
      requests: AsyncIterable<ServeFilesystemRequest>,
      context: HandlerContext,
    ): AsyncGenerator<ServeFilesystemResponse> {
      const over = new Promise<void>((resolve) => {
        context.signal.addEventListener("abort", () => resolve());
      });
      const input = requests[Symbol.asyncIterator]();
      const first = (await input.next()).value?.request;
      if (first?.case !== "attach") throw new Error("attach must come first");
      note(`attach ${first.value.id} ${first.value.credits}`);
      if (scenario.mounts === "refuse") {
        throw failure(ErrorCode.LIMIT_EXCEEDED, { message: "Too many mounts" });
      }
      if (scenario.mounts === "hang") return await over.then(() => undefined);
      yield response({ case: "attached", value: { $typeName: "lanebox.v1.FilesystemAttached" } });
      const call = { case: "read", value: { offset: 0n, length: 5 } } as const;
      const path = Buffer.from("/hello");
      yield response({ case: "call", value: create(FilesystemCallSchema, { id: 1n, path, call }) });
      const answer = (await input.next()).value?.request;
      if (answer?.case === "answer") {
        note(`answer ${Buffer.from((answer.value.answer.value ?? "") as Uint8Array)}`);
      }
      await over;
      note(`stream of ${first.value.id} ended`);
    },
  };
}
