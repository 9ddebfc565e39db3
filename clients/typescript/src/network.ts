// The guest's network: default deny, decided by the caller, flow by flow.
import {
  NetworkPolicy,
  NetworkRules,
  NetworkSecrets,
  type PolicyCallback,
  type PolicyOptions,
  type TrustOptions,
} from "./network/policy.js";
import type { NetworkRule } from "./network/rules.js";
import type { SecretOptions } from "./network/secrets.js";

/**
 * What a guest's network is made of, for the option `network`. Each function throws a
 * `SandboxError` `invalid-argument` that names the option and its value; values that may be credentials
 * are not shown.
 */
export const network = {
  /**
   * A callback that is asked once about each new flow that no rule allows. Other flows go on while it
   * thinks. No grant, a throw, or no decision within `deadlineMs` denies, with an event.
   */
  policy(callback: PolicyCallback, options?: PolicyOptions): NetworkPolicy {
    return new NetworkPolicy(callback, options);
  },
  /**
   * Decisions as data, 1024 at most, tried in their order without a call into this program. The first
   * that allows a flow decides. An empty list allows nothing.
   */
  rules(rules: readonly NetworkRule[], options?: TrustOptions): NetworkRules {
    return new NetworkRules(rules, options);
  },
  /**
   * Credentials, by the names of variables of the guest's environment, 256 at most. The guest has random
   * placeholders; the values take their place in the headers of requests to the hosts of each, where
   * HTTP is allowed by a rule or by `matchHttp`. A placeholder on its way to any other host blocks the
   * request with an event.
   */
  secrets(secrets: Readonly<Record<string, SecretOptions>>): NetworkSecrets {
    return new NetworkSecrets(secrets);
  },
} as const;
