// defineSandbox and boot.
import { bootLane, planBoot } from "./boot.js";
import { kebab } from "./error-mapping.js";
import { configFacts } from "./facts/config-facts.js";
import type { EnvironmentFact } from "./facts/fact.js";
import { type BootResponse, EngineKind, IsolationKind } from "./gen/lanebox/v1/sandbox_pb.js";
import {
  type BootOptions,
  checkDefinition,
  type Definition,
  type SandboxOptions,
} from "./options.js";
import { type Isolation, Vm } from "./vm.js";
import { handled } from "./wait.js";

/** A definition that can be booted any number of times, also concurrently. */
export class Sandbox {
  readonly #definition: Definition;

  /** @internal */
  constructor(definition: Definition) {
    this.#definition = definition;
  }

  /**
   * Boots a VM and resolves when processes can run in it. The VM holds the event loop, as a server
   * does, until `vm.close()` or its end.
   *
   * Rejects with a {@link SandboxError}: `invalid-argument` (an option; nothing was started),
   * `isolation-unavailable` (with what the probe found, and a remedy), `artifact-missing`,
   * `artifact-invalid`, `boot-failed` (with `step`, `errno` and `consoleTail`), `timeout`,
   * `sandbox-exited`; or with an `AbortError` when `options.signal` fires. When it rejects, nothing
   * is left running.
   */
  boot(options?: BootOptions): Promise<Vm> {
    return handled(this.#boot(options));
  }

  async #boot(options: BootOptions | undefined): Promise<Vm> {
    const plan = planBoot(this.#definition, options);
    const [lane, response, network] = await bootLane(plan);
    return new Vm(lane, isolationOf(response), network, this.environmentFacts());
  }

  /**
   * What the definition and its image's descriptor say about the environment: facts whose source is
   * `"config"`. Starts nothing.
   */
  environmentFacts(): EnvironmentFact[] {
    return configFacts(this.#definition);
  }
}

/**
 * Defines a sandbox. Starts nothing.
 *
 * Throws a {@link SandboxError}: `invalid-argument` naming the option and its value,
 * `not-supported` for what this version does not have.
 */
export function defineSandbox(options: SandboxOptions): Sandbox {
  return new Sandbox(checkDefinition(options));
}

function isolationOf({ engine, isolation, detail }: BootResponse): Isolation {
  return Object.freeze({
    kind: kebab(IsolationKind, isolation) as Isolation["kind"],
    engine: kebab(EngineKind, engine) as Isolation["engine"],
    detail,
  });
}
