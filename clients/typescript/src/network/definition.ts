// The option `network`: its parts made one, and what of it goes to the host.
import { create } from "@bufbuild/protobuf";
import {
  NetworkPolicySchema,
  NetworkSchema,
  type Network as WireNetwork,
  type NetworkPolicy as WirePolicy,
} from "../gen/lanebox/v1/network_pb.js";
import { type Check, invalid, invalidUnseen } from "../validate.js";
import { NetworkPolicy, NetworkRules, NetworkSecrets, ROOTS_BYTES_MAX } from "./policy.js";
import { type CheckedRule, RULES_MAX } from "./rules.js";
import { type CheckedSecret, SECRETS_MAX } from "./secrets.js";

/** What `network.policy`, `network.rules` and `network.secrets` return. */
export type NetworkPart = NetworkPolicy | NetworkRules | NetworkSecrets;

/**
 * The guest's network: one part, or several that are composed. Rules are tried in the order in which they
 * are given; at most one callback decides about what no rule allows; secrets are merged.
 */
export type Network = NetworkPart | readonly NetworkPart[];

/** A checked network. */
export interface NetworkDefinition {
  readonly rules: readonly CheckedRule[];
  readonly policy: NetworkPolicy | undefined;
  readonly extraRoots: readonly string[];
  readonly secrets: readonly CheckedSecret[];
}

/** The check of a network. */
export const networkOption: Check<NetworkDefinition> = (value, path) => {
  const parts = Array.isArray(value) ? value : [value];
  const rules: CheckedRule[] = [];
  const extraRoots: string[] = [];
  const secrets: CheckedSecret[] = [];
  let policy: NetworkPolicy | undefined;
  for (const [index, part] of parts.entries()) {
    const where = Array.isArray(value) ? `${path}[${index}]` : path;
    if (part instanceof NetworkPolicy) {
      if (policy !== undefined) {
        throw invalidUnseen(where, "a second callback: one decides about what no rule allows");
      }
      policy = part;
      extraRoots.push(...part.extraRoots);
    } else if (part instanceof NetworkRules) {
      rules.push(...part.rules);
      extraRoots.push(...part.extraRoots);
    } else if (part instanceof NetworkSecrets) {
      for (const secret of part.secrets) {
        if (secrets.some(({ name }) => name === secret.name)) {
          throw invalidUnseen(where, `the secret ${secret.name} is given twice`);
        }
        secrets.push(secret);
      }
    } else {
      throw invalid(where, "what a function of `network` returns, or an array of it", typeof part);
    }
  }
  requireFew(path, rules.length, RULES_MAX, "rules");
  requireFew(path, secrets.length, SECRETS_MAX, "secrets");
  const size = extraRoots.reduce((sum, pem) => sum + Buffer.byteLength(pem), 0);
  requireFew(path, size, ROOTS_BYTES_MAX, "bytes of extraRoots");
  return { rules, policy, extraRoots, secrets };
};

function requireFew(path: string, count: number, max: number, what: string): void {
  if (count > max) throw invalidUnseen(path, `${count} ${what}, where ${max} are the most`);
}

/** The policy for the host; `id` names the stream of its callback. */
export function wirePolicy(definition: NetworkDefinition, id: string): WirePolicy {
  const { rules, policy, extraRoots } = definition;
  return create(NetworkPolicySchema, {
    rules: [...rules],
    extraRoots: [...extraRoots],
    ...(policy === undefined ? {} : { callbacks: { id, deadlineMs: policy.deadlineMs } }),
  });
}

/** The network for the host. */
export function wireNetwork(definition: NetworkDefinition, id: string): WireNetwork {
  const policy = wirePolicy(definition, id);
  return create(NetworkSchema, { policy, secrets: [...definition.secrets] });
}
