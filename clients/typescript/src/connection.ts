// gRPC over the one socket to the helper. HTTP/2 as in RFC 9113, one session, never a second one:
// when it is gone, the helper is gone for us.
import * as http2 from "node:http2";
import type { Socket } from "node:net";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BlockStoreService } from "./gen/lanebox/v1/block_store_pb.js";
import { FileService } from "./gen/lanebox/v1/file_pb.js";
import { FilesystemService } from "./gen/lanebox/v1/filesystem_pb.js";
import { ImageService } from "./gen/lanebox/v1/image_pb.js";
import { NetworkService } from "./gen/lanebox/v1/network_pb.js";
import { ProcessService } from "./gen/lanebox/v1/process_pb.js";
import { SandboxService } from "./gen/lanebox/v1/sandbox_pb.js";

/** Bytes that one stream may have under way to us; also what an unread stream can hold in memory. */
const STREAM_WINDOW = 1024 * 1024;
/** Bytes that all streams together may have under way. */
const CONNECTION_WINDOW = 8 * 1024 * 1024;
/** Bytes of one message; the largest that the protocol has hold 4 MiB of blocks, 512 bytes each at least. */
const MESSAGE_MAX = 5 * 1024 * 1024;
/** The authority that stands in requests; no name is looked up. */
const AUTHORITY = "http://sandbox-host";

/** A connection to a helper. */
export class Connection {
  readonly sandbox: Client<typeof SandboxService>;
  readonly process: Client<typeof ProcessService>;
  readonly filesystem: Client<typeof FilesystemService>;
  readonly files: Client<typeof FileService>;
  readonly blockStore: Client<typeof BlockStoreService>;
  readonly image: Client<typeof ImageService>;
  readonly network: Client<typeof NetworkService>;
  /** Resolves when the connection is gone, for whatever reason; never rejects. */
  readonly lost: Promise<void>;
  readonly #session: http2.ClientHttp2Session;

  constructor(socket: Socket) {
    const session = http2.connect(AUTHORITY, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW, maxFrameSize: 256 * 1024 },
    });
    this.#session = session;
    session.setTimeout(0);
    session.on("error", () => undefined); // each stream tells its caller; `lost` tells of the end
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(CONNECTION_WINDOW);
    });
    this.lost = new Promise((resolve) => session.once("close", resolve));
    const transport = createGrpcTransport({
      baseUrl: AUTHORITY,
      sessionManager: {
        authority: AUTHORITY,
        request: async (method, path, headers, options) => {
          const stream = session.request({ ...headers, ":method": method, ":path": path }, options);
          stream.once("end", () => setImmediate(closeUnfinished, stream));
          return stream;
        },
        notifyResponseByteRead: () => undefined,
      },
      acceptCompression: [],
      readMaxBytes: MESSAGE_MAX,
      writeMaxBytes: MESSAGE_MAX,
    });
    this.sandbox = createClient(SandboxService, transport);
    this.process = createClient(ProcessService, transport);
    this.filesystem = createClient(FilesystemService, transport);
    this.files = createClient(FileService, transport);
    this.blockStore = createClient(BlockStoreService, transport);
    this.image = createClient(ImageService, transport);
    this.network = createClient(NetworkService, transport);
  }

  /** Whether no call can be made any more. */
  get isLost(): boolean {
    return this.#session.destroyed || this.#session.closed;
  }

  /** Lets open streams end, takes no new ones, and closes. */
  finish(): void {
    this.#session.close();
  }

  /** Ends everything at once. */
  destroy(): void {
    this.#session.destroy();
  }
}

/** A call that the server has answered to the end while our side still had input: nobody reads it. */
function closeUnfinished(stream: http2.ClientHttp2Stream): void {
  if (!stream.closed && !stream.writableFinished) stream.close(http2.constants.NGHTTP2_NO_ERROR);
}
