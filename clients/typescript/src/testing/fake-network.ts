// The network of the stand-in for sandbox-host, and the host's side of a ServeNetwork call in the same
// process, which asks what a test tells it to.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Client, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ErrorCode } from "../gen/lanebox/v1/error_pb.js";
import {
  type AddressClassSchema,
  type DecideFlowCallSchema,
  type HttpRequestCallSchema,
  type NetworkAnswer,
  NetworkCallSchema,
  type NetworkService,
  type ServeNetworkRequest,
  type ServeNetworkResponse,
  ServeNetworkResponseSchema,
  Transport,
} from "../gen/lanebox/v1/network_pb.js";
import { NetworkServer } from "../network/network-server.js";
import type { PolicyCallback } from "../network/policy.js";
import { type Fake, failure } from "./fake-helper.js";

type Decide = MessageInitShape<typeof DecideFlowCallSchema>;
type Http = MessageInitShape<typeof HttpRequestCallSchema>;

function response(response: ServeNetworkResponse["response"]): ServeNetworkResponse {
  return create(ServeNetworkResponseSchema, { response });
}

const ATTACHED = response({
  case: "attached",
  value: { $typeName: "lanebox.v1.NetworkAttached" },
});

/** What a flow of a test is like. */
interface FlowInit {
  readonly id?: bigint;
  readonly transport?: Transport;
  readonly kind?: MessageInitShape<typeof AddressClassSchema>;
  readonly names?: string[];
  readonly toResolver?: boolean;
}

/** A TCP flow, number 7, to a public address, unless `init` says otherwise. */
export function flowTo(ip: string, port: number, init: FlowInit = {}): Decide {
  const { id = 7n, transport = Transport.TCP, kind = { publicInternet: true } } = init;
  const source = { ip: "10.0.2.15", port: 40_000, class: { private: true } };
  const flow = { id, transport, source, destination: { ip, port, class: kind } };
  return { flow, names: init.names ?? [], toResolver: init.toResolver ?? false };
}

/** A host that one policy is served to. */
export class FakeNetworkHost {
  readonly server: NetworkServer;
  readonly warnings: string[] = [];
  /** Every answer that came, in order. */
  readonly answers: NetworkAnswer[] = [];
  #responses: ServeNetworkResponse[] = [];
  #wake: () => void = () => undefined;
  #failure: Error | undefined;
  #ended = false;
  #nextId = 1n;
  readonly #open = new Map<bigint, (answer: NetworkAnswer["answer"]) => void>();

  constructor(callback: PolicyCallback) {
    const serveNetwork: Client<typeof NetworkService>["serveNetwork"] = (messages, options) => {
      options?.signal?.addEventListener("abort", () => this.end(new Error("canceled")));
      void this.#read(messages as AsyncIterable<ServeNetworkRequest>);
      return this.#write();
    };
    const warn = (message: string) => this.warnings.push(message);
    this.server = new NetworkServer({ serveNetwork }, { id: "policy-0", callback }, warn);
  }

  /** Asks about a flow. */
  decide(value: Decide): { id: bigint; answer: Promise<NetworkAnswer["answer"]> } {
    return this.#ask({ case: "decide", value });
  }

  /** Asks about a request of flow 7. */
  http(value: Http = {}): { id: bigint; answer: Promise<NetworkAnswer["answer"]> } {
    return this.#ask({ case: "http", value: { flowId: 7n, method: "GET", ...value } });
  }

  #ask(call: NonNullable<MessageInitShape<typeof NetworkCallSchema>["call"]>) {
    const id = this.#nextId++;
    const answer = new Promise<NetworkAnswer["answer"]>((resolve) => this.#open.set(id, resolve));
    this.#say(response({ case: "call", value: create(NetworkCallSchema, { id, call }) }));
    return { id, answer };
  }

  /** Takes back a question. */
  cancel(id: bigint): void {
    this.#say(
      response({ case: "cancel", value: { $typeName: "lanebox.v1.CancelNetworkCall", id } }),
    );
  }

  /** Says that a flow has ended. */
  release(flowId: bigint): void {
    const value = { $typeName: "lanebox.v1.FlowReleased" as const, flowId };
    this.#say(response({ case: "released", value }));
  }

  /** Ends the call. */
  end(failure?: Error): void {
    this.#failure ??= failure;
    this.#ended = true;
    this.#wake();
  }

  #say(message: ServeNetworkResponse): void {
    this.#responses.push(message);
    this.#wake();
  }

  async *#write(): AsyncGenerator<ServeNetworkResponse> {
    for (;;) {
      const next = this.#responses.shift();
      if (next !== undefined) yield next;
      else if (this.#failure !== undefined) throw this.#failure;
      else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  async #read(messages: AsyncIterable<ServeNetworkRequest>): Promise<void> {
    for await (const { request } of messages) {
      if (request.case === "attach") this.#say(ATTACHED);
      if (request.case !== "answer") continue;
      this.answers.push(request.value);
      this.#open.get(request.value.id)?.(request.value.answer);
    }
  }
}

/** Serves a network as the scenario says: it asks one question and notes what it hears. */
export function fakeNetwork({ scenario, note }: Fake): ServiceImpl<typeof NetworkService> {
  let ports = 0;
  return {
    async *serveNetwork(
      requests: AsyncIterable<ServeNetworkRequest>,
      context: HandlerContext,
    ): AsyncGenerator<ServeNetworkResponse> {
      const over = new Promise<void>((resolve) => {
        context.signal.addEventListener("abort", () => resolve());
      });
      const input = requests[Symbol.asyncIterator]();
      const first = (await input.next()).value?.request;
      if (first?.case !== "attach") throw new Error("attach must come first");
      note(`attach ${first.value.id} ${first.value.credits}`);
      if (scenario.network === "hang") return await over.then(() => undefined);
      yield ATTACHED;
      const call = { case: "decide", value: flowTo("192.0.2.1", 443) } as const;
      yield response({ case: "call", value: create(NetworkCallSchema, { id: 1n, call }) });
      const answer = (await input.next()).value?.request;
      if (answer?.case === "answer") {
        const { answer: given } = answer.value;
        const what = given.case === "decision" ? given.value.decision.case : given.value;
        note(`${first.value.id} answers ${given.case} ${what}`);
      }
      if (scenario.network === "break") {
        throw failure(ErrorCode.INVALID_ARGUMENT, { message: "What was that?" });
      }
      await over;
    },
    setNetworkPolicy({ policy }) {
      note(`policy ${policy?.callbacks?.id ?? "none"} rules ${policy?.rules.length}`);
      if (scenario.network === "refuse") {
        throw failure(ErrorCode.INVALID_ARGUMENT, { message: "No such policy" });
      }
      return {};
    },
    publishPort({ guestPort, hostPort, host }) {
      note(`publish ${guestPort} ${hostPort} ${host}`);
      if (scenario.network === "refuse") {
        throw failure(ErrorCode.FILE_ERROR, { message: "In use", errno: "EADDRINUSE" });
      }
      if (scenario.network === "hang") return new Promise(() => undefined);
      ports += 1;
      const hosts = host === "" ? ["127.0.0.1", "::1"] : [host];
      return { id: BigInt(ports), hostPort: hostPort || 40_000 + ports, hosts };
    },
    unpublishPort({ id }) {
      note(`unpublish ${id}`);
      return {};
    },
  };
}
