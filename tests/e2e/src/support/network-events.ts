/** What a lane tells of its network, collected from the boot on. */

import { setTimeout as sleep } from "node:timers/promises";
import type { NetworkAuditRecord, Vm, VmEvent } from "lanebox";

type Denied = Extract<VmEvent, { type: "flow-denied" }>;
type OfKind<K extends NetworkAuditRecord["kind"]> = Extract<NetworkAuditRecord, { kind: K }>;

/** Milliseconds that an event may take on a slow machine. */
const DEADLINE = 60_000;

export class NetworkEvents {
  readonly all: VmEvent[] = [];

  constructor(vm: Vm) {
    void this.#follow(vm);
  }

  async #follow(vm: Vm): Promise<void> {
    for await (const event of vm.events()) this.all.push(event);
  }

  /** Waits for a flow that was denied. */
  denied(fits: (event: Denied) => boolean): Promise<Denied> {
    return this.#find("a flow that is denied", (event) =>
      event.type === "flow-denied" && fits(event) ? event : undefined,
    );
  }

  /** Waits for a record of the audit. */
  record<K extends NetworkAuditRecord["kind"]>(
    kind: K,
    fits: (record: OfKind<K>) => boolean = () => true,
  ): Promise<OfKind<K>> {
    return this.#find(`a record ${kind}`, (event) => {
      if (event.type !== "network-audit" || event.record.kind !== kind) return undefined;
      const record = event.record as OfKind<K>;
      return fits(record) ? record : undefined;
    });
  }

  /** Waits for a callback that failed. */
  callbackFailed(message: RegExp): Promise<VmEvent> {
    return this.#find(`a callback that failed (${message})`, (event) =>
      event.type === "callback-failed" && message.test(event.message) ? event : undefined,
    );
  }

  async #find<T>(what: string, pick: (event: VmEvent) => T | undefined): Promise<T> {
    for (const end = Date.now() + DEADLINE; Date.now() < end; await sleep(20)) {
      for (const event of this.all) {
        const found = pick(event);
        if (found !== undefined) return found;
      }
    }
    throw new Error(`${what} did not come; the last were ${JSON.stringify(this.all.slice(-12))}`);
  }
}
