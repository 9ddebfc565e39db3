/**
 * A TCP server on a thread of its own, for tests that block the event loop of theirs. It sends a byte and
 * waits for it to come back, again and again, and counts how often it did.
 */

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

export interface PingServer extends AsyncDisposable {
  readonly port: number;
  /** Round trips so far. */
  rounds(): number;
  /** Blocks this thread, its event loop included, until there are so many, at least `ms`, at most `limitMs`. */
  blockUntil(rounds: number, ms: number, limitMs: number): void;
}

export async function pingServer(): Promise<PingServer> {
  const counter = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL(import.meta.url), { workerData: counter });
  const [port] = (await once(worker, "message")) as [number];
  const rounds = () => Atomics.load(counter, 0);
  return {
    port,
    rounds,
    blockUntil(wanted, ms, limitMs) {
      const begin = Date.now();
      const passed = () => Date.now() - begin;
      while ((rounds() < wanted || passed() < ms) && passed() < limitMs) {
        Atomics.wait(counter, 0, rounds(), 50);
      }
    },
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}

function serve(counter: Int32Array): void {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(".");
    socket.on("data", () => {
      Atomics.add(counter, 0, 1);
      Atomics.notify(counter, 0);
      setTimeout(() => socket.write("."), 5);
    });
  });
  server.listen(0, "127.0.0.1", () => {
    parentPort?.postMessage((server.address() as AddressInfo).port);
  });
}

if (!isMainThread) serve(workerData as Int32Array);
