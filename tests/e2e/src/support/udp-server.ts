/** A UDP server on the host's loopback that sends back what comes. */

import { createSocket } from "node:dgram";
import { once } from "node:events";

export interface UdpServer extends AsyncDisposable {
  readonly port: number;
  /** Datagrams that came. */
  datagrams(): number;
}

export async function udpEcho(): Promise<UdpServer> {
  let came = 0;
  const socket = createSocket("udp4", (data, from) => {
    came += 1;
    socket.send(data, from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    port: socket.address().port,
    datagrams: () => came,
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, "close");
    },
  };
}
