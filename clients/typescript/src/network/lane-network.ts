// The network of a running VM: its policy, which can be replaced, and its published ports.
import { SandboxError } from "../errors.js";
import type { Lane } from "../lane.js";
import { invalid, invalidUnseen } from "../validate.js";
import { type NetworkDefinition, networkOption, wirePolicy } from "./definition.js";
import { type CheckedPublish, type PublishedPort, publishOptions } from "./published.js";

/** The name of the stream of the callback that a VM boots with. */
export const FIRST_POLICY = "policy-0";

/** What a boot needs of the network. */
export interface NetworkPlan {
  /** Undefined: the guest has no network device. */
  readonly definition: NetworkDefinition | undefined;
  /** Ports to publish. */
  readonly publish: readonly CheckedPublish[];
}

/** The network of one VM. */
export class LaneNetwork {
  readonly #lane: Lane;
  readonly #booted: NetworkDefinition | undefined;
  readonly #published = new Map<PublishedPort, bigint>();
  #policies = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(lane: Lane, { definition }: NetworkPlan) {
    this.#lane = lane;
    this.#booted = definition;
  }

  /** The ports that are published, in the order in which they were. */
  get published(): readonly PublishedPort[] {
    return [...this.#published.keys()];
  }

  /** Puts another policy in force for new flows. One change after the other: the last one stays. */
  async set(given: unknown): Promise<void> {
    const definition = networkOption(given, "network");
    const booted = this.#required("setNetwork");
    for (const secret of definition.secrets) {
      if (!booted.secrets.includes(secret)) {
        const remedy = "leave network.secrets out, or give what the VM was booted with";
        throw invalidUnseen("network", `secrets cannot change while the VM runs; ${remedy}`);
      }
    }
    const change = this.#turn.then(() => this.#set(definition));
    this.#turn = change.catch(() => undefined);
    return change;
  }

  async #set(definition: NetworkDefinition): Promise<void> {
    this.#policies += 1;
    const id = `policy-${this.#policies}`;
    const policy = wirePolicy(definition, id);
    const callback = definition.policy?.callback;
    const server = callback && (await this.#lane.servePolicy({ id, callback }));
    try {
      await this.#lane.network((network, options) => network.setNetworkPolicy({ policy }, options));
    } catch (error) {
      server?.end();
      throw error;
    }
  }

  /** Publishes a port. */
  async publish(given: unknown, signal?: AbortSignal): Promise<PublishedPort> {
    if (given === undefined) throw invalid("options", "an object", given);
    const { guestPort, hostPort, host = "" } = publishOptions(given, "options");
    this.#required("publish");
    const response = await this.#lane.network(
      (network, options) => network.publishPort({ guestPort, hostPort, host }, options),
      signal,
    );
    const hosts = Object.freeze([...response.hosts]);
    const published = Object.freeze({ guestPort, hostPort: response.hostPort, hosts });
    this.#published.set(published, response.id);
    return published;
  }

  /** Ends the listening. */
  async unpublish(published: unknown): Promise<void> {
    const id = this.#published.get(published as PublishedPort);
    if (id === undefined) {
      throw invalid("published", "what publish of this VM returned, once", published);
    }
    await this.#lane.network((network, options) => network.unpublishPort({ id }, options));
    this.#published.delete(published as PublishedPort);
  }

  #required(call: string): NetworkDefinition {
    if (this.#booted !== undefined) return this.#booted;
    throw new SandboxError("invalid-state", `${call}: the VM was booted without a network`, {
      remedy: "Give defineSandbox the option `network`; network.rules([]) allows nothing",
    });
  }
}
