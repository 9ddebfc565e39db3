// The parts that a network is made of: `network.policy`, `network.rules`, `network.secrets`.
import { X509Certificate } from "node:crypto";
import {
  type Check,
  callback,
  integer,
  invalidUnseen,
  object,
  oneOrMany,
  withDefault,
} from "../validate.js";
import type { NetworkConnection } from "./connection.js";
import { type CheckedRule, checkRules, type NetworkRule } from "./rules.js";
import { type CheckedSecret, checkSecrets, type SecretOptions } from "./secrets.js";

/**
 * Decides about a new flow of the guest, by at most one call of `accept`, `deny` and their like before
 * it returns (or before its promise resolves).
 */
export type PolicyCallback = (connection: NetworkConnection) => void | Promise<void>;

/** Options of every part that decides. */
export interface TrustOptions {
  /**
   * Certificates in PEM that are believed upstream beside the host's own roots; 1 MiB together at most.
   * Default: none.
   */
  readonly extraRoots?: string | readonly string[] | undefined;
}

/** Options of `network.policy`. */
export interface PolicyOptions extends TrustOptions {
  /** Milliseconds that a decision may take, 1 to 3600000; then the flow is denied. Default: 30000. */
  readonly deadlineMs?: number | undefined;
}

/** Most bytes of all extra roots together. */
export const ROOTS_BYTES_MAX = 1024 * 1024;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

const certificates: Check<string> = (value, path) => {
  if (typeof value !== "string")
    throw invalidUnseen(path, `expected a string, got ${typeof value}`);
  if (value.length > ROOTS_BYTES_MAX) throw invalidUnseen(path, "more than 1 MiB");
  if (value.includes("PRIVATE KEY-----")) {
    throw invalidUnseen(path, "a private key is among the certificates");
  }
  const blocks = value.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) throw invalidUnseen(path, "no certificate in PEM in it");
  for (const [index, pem] of blocks.entries()) {
    try {
      new X509Certificate(pem);
    } catch (error) {
      throw invalidUnseen(path, `certificate ${index + 1} is none: ${(error as Error).message}`);
    }
  }
  return value;
};

const extraRoots = withDefault(oneOrMany(certificates, 4096), []);
const policyOptions = object({
  deadlineMs: withDefault(integer(1, 3_600_000), 30_000),
  extraRoots,
});
const rulesOptions = object({ extraRoots });

/** A callback that decides. From `network.policy`. */
export class NetworkPolicy {
  readonly #callback: PolicyCallback;
  readonly #options: { readonly deadlineMs: number; readonly extraRoots: readonly string[] };

  /** @internal */
  constructor(given: PolicyCallback, options?: PolicyOptions) {
    this.#callback = callback<PolicyCallback>()(given, "network.policy");
    this.#options = policyOptions(options, "options");
  }

  /** @internal */
  get callback(): PolicyCallback {
    return this.#callback;
  }

  /** @internal */
  get deadlineMs(): number {
    return this.#options.deadlineMs;
  }

  /** @internal */
  get extraRoots(): readonly string[] {
    return this.#options.extraRoots;
  }
}

/** Decisions as data. From `network.rules`. */
export class NetworkRules {
  readonly #rules: readonly CheckedRule[];
  readonly #extraRoots: readonly string[];

  /** @internal */
  constructor(given: readonly NetworkRule[], options?: TrustOptions) {
    this.#rules = checkRules(given, "rules");
    this.#extraRoots = rulesOptions(options, "options").extraRoots;
  }

  /** @internal */
  get rules(): readonly CheckedRule[] {
    return this.#rules;
  }

  /** @internal */
  get extraRoots(): readonly string[] {
    return this.#extraRoots;
  }
}

/** Credentials that the guest uses and never has. From `network.secrets`. They do not print. */
export class NetworkSecrets {
  readonly #secrets: readonly CheckedSecret[];

  /** @internal */
  constructor(given: Readonly<Record<string, SecretOptions>>) {
    this.#secrets = checkSecrets(given, "secrets");
  }

  /** @internal */
  get secrets(): readonly CheckedSecret[] {
    return this.#secrets;
  }
}
