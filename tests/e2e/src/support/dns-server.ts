/**
 * A resolver on the host's loopback, over UDP and TCP at one port (RFC 1035): it knows what it was
 * given, notes what it is asked, and answers NXDOMAIN to the rest.
 */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";

/** Records of a name: IPv4 addresses, or the name that it is an alias of. */
export type Zone = Record<string, string[] | { alias: string }>;

export interface DnsServer extends AsyncDisposable {
  /** "127.0.0.1:port". */
  readonly address: string;
  /** "udp name" or "tcp name", in the order in which they came. */
  readonly asked: string[];
  /** Names in here are answered truncated over UDP. */
  readonly truncated: Set<string>;
}

const TYPE_A = 1;
const TYPE_CNAME = 5;

function encodeName(name: string): Buffer {
  const labels = name.split(".").map((label) => {
    const bytes = Buffer.from(label);
    return Buffer.concat([Buffer.of(bytes.length), bytes]);
  });
  return Buffer.concat([...labels, Buffer.of(0)]);
}

function record(name: string, type: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(60, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([encodeName(name), fixed, data]);
}

/** The records that answer a question for addresses, through aliases. */
function records(zone: Zone, name: string, type: number): Buffer[] {
  const found: Buffer[] = [];
  let current = name;
  for (let hops = 0; hops < 8; hops++) {
    const entry = zone[current];
    if (entry === undefined) break;
    if (Array.isArray(entry)) {
      if (type !== TYPE_A) break;
      const addresses = entry.map((ip) => Buffer.from(ip.split(".").map(Number)));
      return [...found, ...addresses.map((data) => record(current, TYPE_A, data))];
    }
    found.push(record(current, TYPE_CNAME, encodeName(entry.alias)));
    current = entry.alias;
  }
  return found;
}

/** Starts one. */
export async function dnsServer(zone: Zone): Promise<DnsServer> {
  const asked: string[] = [];
  const truncated = new Set<string>();

  const answer = (query: Buffer, over: "udp" | "tcp"): Buffer => {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString("latin1", at + 1, at + 1 + length));
      at += 1 + length;
    }
    const name = labels.join(".").toLowerCase();
    asked.push(`${over} ${name}`);
    const cut = over === "udp" && truncated.has(name);
    const answers = cut ? [] : records(zone, name, query.readUInt16BE(at + 1));
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | (cut ? 0x200 : 0) | (name in zone ? 0 : 3), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(answers.length, 6);
    return Buffer.concat([head, query.subarray(12, at + 5), ...answers]);
  };

  const sockets = new Set<Socket>();
  const tcp = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    let rest = Buffer.alloc(0);
    socket.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const end = 2 + rest.readUInt16BE(0);
        const reply = answer(rest.subarray(2, end), "tcp");
        const length = Buffer.alloc(2);
        length.writeUInt16BE(reply.length);
        socket.write(Buffer.concat([length, reply]));
        rest = rest.subarray(end);
      }
    });
  });
  tcp.listen(0, "127.0.0.1");
  await once(tcp, "listening");
  const { port } = tcp.address() as { port: number };
  const udp = createSocket("udp4", (query, from) => {
    udp.send(answer(query, "udp"), from.port, from.address);
  });
  udp.bind(port, "127.0.0.1");
  await once(udp, "listening");

  return {
    address: `127.0.0.1:${port}`,
    asked,
    truncated,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      udp.close();
      tcp.close();
      await once(tcp, "close");
    },
  };
}
