/** A TCP server on the host's loopback. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface TcpServer extends AsyncDisposable {
  readonly port: number;
  /** Connections that came. */
  connections: number;
}

/** Listens at a free port of an address; connections may be half open. */
export async function tcpServer(
  serve: (socket: Socket) => void,
  host = "127.0.0.1",
): Promise<TcpServer> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    result.connections += 1;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    serve(socket);
  });
  server.listen(0, host);
  await once(server, "listening");
  const result: TcpServer = {
    port: (server.address() as AddressInfo).port,
    connections: 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
  return result;
}

/** A port of the host's loopback that nobody listens on. */
export async function closedPort(): Promise<number> {
  await using server = await tcpServer(() => {});
  return server.port;
}
