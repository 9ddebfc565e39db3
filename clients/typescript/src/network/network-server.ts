// One policy's callback served to one VM: the ServeNetwork call of lanebox.v1.NetworkService. Each
// question gets one answer, whatever the callback and its middlewares do.
//
//   decide ──► policy callback ──► decision; its middleware is kept until the flow is released
//   http   ──► that middleware ──► verdict
//   cancel ──► signal fires; the answer, which still comes, grants nothing
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { CallbackStream } from "../callbacks/callback-stream.js";
import { Outbox } from "../callbacks/outbox.js";
import {
  AttachNetworkSchema,
  type DecideFlowCall,
  type HttpRequestCall,
  type NetworkAnswer,
  type NetworkCall,
  type NetworkService,
  type ServeNetworkRequest,
  ServeNetworkRequestSchema,
} from "../gen/lanebox/v1/network_pb.js";
import { describe } from "../mounts/answers.js";
import { brief } from "./brief.js";
import { type FlowVerdict, NetworkConnection } from "./connection.js";
import { wireHeaders } from "./headers.js";
import type { PolicyCallback } from "./policy.js";
import { type HttpMiddleware, InterceptedRequest, type RequestVerdict } from "./request.js";
import { Verdict } from "./verdict.js";

/** Questions that may be unanswered at a time. Each may hold the head of a request, 64 KiB. */
export const CREDITS = 1024;

type Answer = NetworkAnswer["answer"];
type Released = { readonly case: "released"; readonly value: { readonly flowId: bigint } };

/** What is served. */
export interface ServedPolicy {
  /** Its name in this VM. */
  readonly id: string;
  readonly callback: PolicyCallback;
}

/** Serves one policy's callback to one VM. */
export class NetworkServer {
  /** Resolves when the host has taken the policy; rejects with the call's error when it does not. */
  readonly attached: Promise<void>;
  /** Resolves when the stream has ended, however; never rejects. */
  readonly done: Promise<void>;
  readonly #callback: PolicyCallback;
  readonly #outbox: Outbox<ServeNetworkRequest>;
  readonly #stream: CallbackStream<ServeNetworkRequest, NetworkCall, Released>;
  /** By flow: what decides about its requests, and the question that it was the answer to. */
  readonly #middlewares = new Map<bigint, { middleware: HttpMiddleware; call: bigint }>();

  constructor(
    client: Pick<Client<typeof NetworkService>, "serveNetwork">,
    { id, callback }: ServedPolicy,
    warn: (message: string) => void,
  ) {
    this.#callback = callback;
    const value = create(AttachNetworkSchema, { id, credits: CREDITS });
    this.#outbox = new Outbox(
      create(ServeNetworkRequestSchema, { request: { case: "attach", value } }),
    );
    this.#stream = new CallbackStream<ServeNetworkRequest, NetworkCall, Released>(
      client.serveNetwork.bind(client),
      this.#outbox,
      {
        what: "a network policy",
        serve: (call, signal) => this.#serve(call, signal),
        told: ({ value }) => this.#middlewares.delete(value.flowId),
        cancelledLate: (call) => this.#forget(call),
        ended: (failure) => {
          this.#middlewares.clear();
          if (failure === undefined) return;
          warn(`The network policy is not served any more, flows are denied: ${describe(failure)}`);
        },
      },
    );
    this.done = this.#stream.done;
    this.attached = this.#stream.attached;
  }

  /** Flows whose requests a middleware decides about. */
  get middlewares(): number {
    return this.#middlewares.size;
  }

  /** Ends the stream. Callbacks that are under way see their signals fire. */
  end(): void {
    this.#stream.end();
  }

  async #serve({ id, call }: NetworkCall, signal: AbortSignal): Promise<void> {
    const answer = await this.#answer(id, call, signal).catch((error) =>
      problem(`An answer about the network could not be made: ${describe(error)}`),
    );
    const value = { $typeName: "lanebox.v1.NetworkAnswer" as const, id, answer };
    await this.#outbox.send(
      create(ServeNetworkRequestSchema, { request: { case: "answer", value } }),
    );
    if (signal.aborted) this.#forget(id);
  }

  async #answer(id: bigint, call: NetworkCall["call"], signal: AbortSignal): Promise<Answer> {
    if (call.case === "http") return this.#request(call.value, signal);
    if (call.case !== "decide") return problem("A question that this version does not know");
    const [answer, middleware] = await this.#decide(call.value, signal);
    const flow = call.value.flow?.id;
    // Before the answer is sent: the first request may come right after it.
    if (middleware !== undefined && flow !== undefined) {
      this.#middlewares.set(flow, { middleware, call: id });
    }
    return answer;
  }

  async #decide(
    call: DecideFlowCall,
    signal: AbortSignal,
  ): Promise<[Answer, (HttpMiddleware | undefined)?]> {
    const verdict = new Verdict<FlowVerdict>("flow", signal);
    try {
      await this.#callback(new NetworkConnection(call, verdict, signal));
    } catch (error) {
      return [problem(`The network policy threw: ${describe(error)}`)];
    } finally {
      verdict.close();
    }
    if (verdict.problem !== undefined) return [problem(verdict.problem)];
    if (signal.aborted) return [problem("The decision came too late")];
    const { decision, middleware } = verdict.decision ?? NO_GRANT;
    return [
      { case: "decision", value: { $typeName: "lanebox.v1.FlowDecision", decision } },
      middleware,
    ];
  }

  async #request(call: HttpRequestCall, signal: AbortSignal): Promise<Answer> {
    const middleware = this.#middlewares.get(call.flowId)?.middleware;
    if (middleware === undefined) return problem("A request of a flow that has no middleware");
    const verdict = new Verdict<RequestVerdict>("request", signal);
    const request = new InterceptedRequest(call, verdict, signal);
    try {
      await middleware(request);
    } catch (error) {
      return problem(`The middleware threw: ${describe(error)}`);
    } finally {
      verdict.close();
    }
    if (verdict.problem !== undefined) return problem(verdict.problem);
    if (signal.aborted) return problem("The verdict came too late");
    const given = verdict.decision ?? {
      case: "forward",
      value: {
        $typeName: "lanebox.v1.ForwardRequest" as const,
        headers: wireHeaders(request.headers),
      },
    };
    return { case: "verdict", value: { $typeName: "lanebox.v1.HttpVerdict", verdict: given } };
  }

  /** The answer to this question was of no interest. */
  #forget(call: bigint): void {
    for (const [flow, kept] of this.#middlewares) {
      if (kept.call === call) this.#middlewares.delete(flow);
    }
  }
}

const NO_GRANT: FlowVerdict = {
  decision: {
    case: "deny",
    value: { $typeName: "lanebox.v1.DenyFlow", reason: "The policy has no grant for it" },
  },
};

function problem(text: string): Answer {
  return { case: "problem", value: brief(text) };
}
