/** Origins on the host's loopback: HTTP/1.1 in the clear and over TLS, HTTP/2 over TLS. They note what they get. */

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server, Socket } from "node:net";
import { join, normalize } from "node:path";
import type { Duplex } from "node:stream";

/** A request that came. */
export interface Noted {
  readonly method: string;
  readonly path: string;
  /** "1.1" or "2.0". */
  readonly version: string;
  /** Names and values in turn, as they came. */
  readonly raw: readonly string[];
  readonly headers: IncomingMessage["headers"];
  body: string;
}

/** What an origin does for a path; the rest is a 404. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface Origin extends AsyncDisposable {
  readonly port: number;
  readonly requests: Noted[];
  /** Handlers by path, to be added to. */
  readonly paths: Map<string, Handler>;
  /** The requests for a path, once there is one. */
  of(path: string): Noted[];
}

/** How it speaks: in the clear, over TLS, or HTTP/2 over TLS; with which certificate. */
export interface OriginOptions {
  readonly kind: "http" | "https" | "http2";
  readonly certificate?: { cert: string; key: string };
  /** A directory that is served below "/files/". */
  readonly files?: string;
}

export async function origin({ kind, certificate, files }: OriginOptions): Promise<Origin> {
  const requests: Noted[] = [];
  const paths = new Map<string, Handler>([
    ["/hello", (_, response) => response.end("hello\n")],
    ["/big", (_, response) => response.end(Buffer.alloc(8 << 20, "b"))],
  ]);
  const listener: Handler = (request, response) => {
    const path = new URL(request.url ?? "/", "http://origin").pathname;
    const noted: Noted = {
      method: request.method ?? "",
      path,
      version: request.httpVersion,
      raw: [...request.rawHeaders],
      headers: request.headers,
      body: "",
    };
    requests.push(noted);
    request.on("data", (data: Buffer) => {
      noted.body += data.toString("latin1");
    });
    const handler = paths.get(path) ?? (files === undefined ? undefined : fileIn(files));
    if (handler !== undefined) return handler(request, response);
    response.statusCode = 404;
    response.end("no such path\n");
  };
  const server =
    kind === "http"
      ? createServer(listener)
      : kind === "https"
        ? createTlsServer({ ...certificate }, listener)
        : createSecureServer({ ...certificate }, listener as never);
  const sockets = new Set<Duplex>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex) => {
    requests.push({
      method: request.method ?? "",
      path: request.url ?? "",
      version: request.httpVersion,
      raw: [...request.rawHeaders],
      headers: request.headers,
      body: "",
    });
    echoFrames(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    paths,
    of: (path) => requests.filter((request) => request.path === path),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      (server as Server).close();
      await once(server, "close");
    },
  };
}

/** Files below a directory, at "/files/…". */
function fileIn(folder: string): Handler {
  return (request, response) => {
    const path = new URL(request.url ?? "/", "http://origin").pathname;
    try {
      response.end(readFileSync(join(folder, normalize(path.replace(/^\/files/, "")))));
    } catch {
      response.statusCode = 404;
      response.end();
    }
  };
}

/** WebSocket (RFC 6455): agrees to anything, and sends short frames back unmasked. */
function echoFrames(socket: Duplex): void {
  socket.on("error", () => {});
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Kind: echo\r\n\r\n",
  );
  let rest = Buffer.alloc(0);
  socket.on("data", (data: Buffer) => {
    rest = Buffer.concat([rest, data]);
    for (;;) {
      const length = (rest[1] ?? 0) & 0x7f;
      if (rest.length < 6 + length) return;
      const mask = rest.subarray(2, 6);
      const text = rest.subarray(6, 6 + length).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
      socket.write(Buffer.concat([Buffer.of(0x81, length), text]));
      rest = rest.subarray(6 + length);
    }
  });
}
