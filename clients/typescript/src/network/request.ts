// A request of the guest, as a middleware sees it, and what the middleware can do with it.
import { kebab } from "../error-mapping.js";
import {
  HttpProtocol,
  type HttpRequestCall,
  type HttpVerdict,
} from "../gen/lanebox/v1/network_pb.js";
import { type Check, integer, invalidUnseen, object, withDefault } from "../validate.js";
import { brief } from "./brief.js";
import { endpointOf, type NetworkEndpoint } from "./endpoint.js";
import {
  type HeadersInit,
  type HttpHeaders,
  headerFields,
  headersOf,
  wireHeaders,
} from "./headers.js";
import type { Verdict } from "./verdict.js";

/** Bytes of a body that is answered, at most. */
const BODY_MAX = 1024 * 1024;
/** What frames a message or belongs to its connection: made by Lanebox. */
const FRAMING = [
  "connection",
  "content-length",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/**
 * Sees each request of a flow, may change its headers, answer it, or refuse it. Returning lets it go on.
 * A throw, a hang beyond the `deadlineMs` of its policy, or a second verdict refuses it with a 403 and
 * an event.
 */
export type HttpMiddleware = (request: InterceptedRequest) => void | Promise<void>;

/** What a middleware answers with. */
export interface HttpResponseInit {
  /** 200 to 599. Default: 200. */
  readonly status?: number | undefined;
  /** Without those that frame the message, such as `content-length`. */
  readonly headers?: HeadersInit | undefined;
  /** Text (as UTF-8) or bytes, at most 1 MiB. Default: empty. */
  readonly body?: string | Uint8Array | undefined;
}

/** Where a request goes. */
export interface HttpDestination extends NetworkEndpoint {
  /** The trusted name that the flow was accepted for; absent where there is none. */
  readonly hostname?: string;
}

/** What is known of the guest's TLS. */
export interface TlsInfo {
  /** The name in the ClientHello; absent without one. */
  readonly serverName?: string;
  /** What was negotiated: `"h2"` or `"http/1.1"`; absent when nothing was. */
  readonly alpn?: string;
}

/** What a request can end with other than to go on. */
export type RequestVerdict = Exclude<HttpVerdict["verdict"], { case: undefined | "forward" }>;

/** A request of the guest, without its body, which follows it at its own pace. */
export class InterceptedRequest {
  /** Such as `GET`. */
  readonly method: string;
  /** Scheme, host, path and query. */
  readonly url: string;
  /**
   * Its header fields, which may be changed. Changes to `host` and to those that frame the message or
   * belong to the connection are undone. Secrets are placeholders here.
   */
  readonly headers: HttpHeaders;
  /** What the guest speaks: HTTP/1.0 or 1.1, or HTTP/2. */
  readonly protocol: "http1" | "http2";
  /** The address that was dialled, as the guest names it, and the trusted name. */
  readonly destination: HttpDestination;
  /** What is known of the guest's TLS; absent in the clear. */
  readonly tls?: TlsInfo;
  /** Fires when nobody waits for the verdict any more. */
  readonly signal: AbortSignal;
  readonly #verdict: Verdict<RequestVerdict>;

  /** @internal */
  constructor(call: HttpRequestCall, verdict: Verdict<RequestVerdict>, signal: AbortSignal) {
    this.#verdict = verdict;
    this.signal = signal;
    this.method = call.method;
    this.url = call.url;
    this.headers = headersOf(call.headers);
    this.protocol = kebab(HttpProtocol, call.protocol) === "http2" ? "http2" : "http1";
    const endpoint = endpointOf(call.destination);
    this.destination = call.hostname === "" ? endpoint : { ...endpoint, hostname: call.hostname };
    if (call.tls !== undefined) {
      const { serverName, alpn } = call.tls;
      this.tls = {
        ...(serverName === "" ? {} : { serverName }),
        ...(alpn === "" ? {} : { alpn }),
      };
    }
  }

  /** Answers the request; it goes nowhere. Throws when the response makes no sense, or a verdict was given. */
  respond(response: HttpResponseInit = {}): void {
    const { status, headers, body } = responseInit(response, "response");
    this.#verdict.give({
      case: "respond",
      value: {
        $typeName: "lanebox.v1.RespondToRequest",
        status,
        headers: wireHeaders(headers),
        body,
      },
    });
  }

  /** Refuses the request; the guest gets a 403 with the reason. Throws when a verdict was given. */
  deny(reason = "The policy denies it"): void {
    const value = { $typeName: "lanebox.v1.DenyRequest" as const, reason: brief(reason) };
    this.#verdict.give({ case: "deny", value });
  }
}

const body: Check<Uint8Array> = (value, path) => {
  if (value === undefined) return new Uint8Array();
  if (typeof value !== "string" && !(value instanceof Uint8Array)) {
    throw invalidUnseen(path, `expected a string or a Uint8Array, got ${typeof value}`);
  }
  const bytes = Uint8Array.from(Buffer.from(value as string));
  if (bytes.byteLength > BODY_MAX) {
    throw invalidUnseen(path, `${bytes.byteLength} bytes, where ${BODY_MAX} are the most`);
  }
  return bytes;
};

const responseHeaders: Check<[string, string][]> = (value, path) => {
  const fields = headerFields(value, path);
  const framing = fields.find(([name]) => FRAMING.includes(name));
  if (framing !== undefined) {
    throw invalidUnseen(path, `${framing[0]} frames the message, which is done for you`);
  }
  return fields;
};

const responseInit = object({
  status: withDefault(integer(200, 599), 200),
  headers: responseHeaders,
  body,
});
