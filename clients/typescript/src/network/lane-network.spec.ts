// The network of a VM from its boot to its end, against a stand-in for the helper.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import {
  defineSandbox,
  network,
  rootfs,
  type SandboxError,
  type Vm,
  type VmEvent,
} from "../index.js";
import { limits } from "../lane.js";
import type { Scenario } from "../testing/fake-helper.js";
import { FAKE_IMAGE, refused, type Setup, setUp } from "../testing/harness.js";
import type { Network } from "./definition.js";
import { CREDITS } from "./network-server.js";

let setup: Setup;
const normal = { ...limits };
const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

beforeEach(() => {
  Object.assign(limits, normal);
});

afterEach(async () => {
  await new Promise(setImmediate);
  const { length } = setup.alive();
  setup.remove();
  assert.equal(length, 0, "a helper is left");
  assert.deepEqual(unhandled, []);
});

function given(net: Network | undefined, scenario: Omit<Scenario, "log"> = {}) {
  setup = setUp(scenario);
  return defineSandbox({ rootfs: rootfs.builtIn(FAKE_IMAGE), network: net });
}

async function within(vm: Vm, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } finally {
    await vm.close();
  }
}

const accepting = network.policy((conn) => conn.accept());
const secrets = network.secrets({ TOKEN: { value: "s3cret", hosts: "a.example" } });

test("a VM without a network has none, and cannot get one", async () => {
  const vm = await given(undefined).boot();
  await within(vm, async () => {
    const none = refused("invalid-state", /booted without a network/);
    await assert.rejects(vm.setNetwork(accepting), none);
    await assert.rejects(vm.publish({ guestPort: 80 }), none);
    assert(!setup.notes().some((note) => note.startsWith("network")));
  });
});

test("a policy is attached before the boot, asked, and its callback's failure is an event", async () => {
  const vm = await given([network.rules([{ allow: "dns" }]), accepting, secrets]).boot();
  await within(vm, async () => {
    await setup.noted("policy-0 answers decision accept");
    const notes = setup.notes();
    assert(
      notes.indexOf(`attach policy-0 ${CREDITS}`) < notes.indexOf("network policy-0 rules 1 TOKEN"),
    );
    assert(!notes.join().includes("s3cret"));
    for await (const event of vm.events()) {
      if (event.type !== "callback-failed") continue;
      assert.equal(event.message, "It threw");
      return;
    }
  });
});

test("rules alone need no stream", async () => {
  const vm = await given(network.rules([{ allow: "dns" }])).boot();
  await within(vm, async () => {
    assert(setup.notes().includes("network none rules 1 "));
    assert(!setup.notes().some((note) => note.startsWith("attach")));
  });
});

test("a helper that does not take the policy fails the boot in time", async () => {
  limits.attachMs = 50;
  const error = await given(accepting, { network: "hang" })
    .boot()
    .then(
      () => assert.fail("it booted"),
      (error: SandboxError) => error,
    );
  assert.equal(error.code, "timeout");
});

test("closing is bounded while a callback hangs, which hears of it", async () => {
  const signals: AbortSignal[] = [];
  const hanging = network.policy(({ signal }) => {
    signals.push(signal);
    return new Promise(() => undefined);
  });
  const vm = await given(hanging).boot();
  while (signals.length === 0) await new Promise(setImmediate);
  await vm.close();
  assert(signals[0]?.aborted);
});

test("a policy that is not served any more is a warning", async () => {
  const vm = await given(accepting, { network: "break" }).boot();
  await within(vm, async () => {
    for await (const event of vm.events()) {
      if (event.type === "warning" && /not served any more/.test(event.message)) return;
    }
  });
});

test("another policy takes the place of the first, one change after the other", async () => {
  const vm = await given([accepting, secrets]).boot();
  await within(vm, async () => {
    const changes = [
      vm.setNetwork([network.rules([{ allow: "tcp" }]), network.policy((conn) => conn.deny())]),
      vm.setNetwork([network.rules([]), secrets]),
      vm.setNetwork(network.policy(() => undefined)),
    ];
    await Promise.all(changes);
    await setup.noted("policy-1 answers decision deny");
    await setup.noted("policy-3 answers decision deny");
    const order = setup.notes().filter((note) => /^(attach|policy policy|policy none)/.test(note));
    assert.deepEqual(order, [
      `attach policy-0 ${CREDITS}`,
      `attach policy-1 ${CREDITS}`,
      "policy policy-1 rules 1",
      "policy none rules 0",
      `attach policy-3 ${CREDITS}`,
      "policy policy-3 rules 0",
    ]);
  });
});

test("secrets do not change, and a policy that makes no sense is refused before it is sent", async () => {
  const vm = await given([accepting, secrets]).boot();
  await within(vm, async () => {
    const other = network.secrets({ TOKEN: { value: "x", hosts: "a.example" } });
    const unchanging = refused("invalid-argument", /^network: secrets cannot change/);
    await assert.rejects(vm.setNetwork([accepting, other]), unchanging);
    await assert.rejects(vm.setNetwork({} as never), refused("invalid-argument", /^network: /));
    assert(!setup.notes().some((note) => note.startsWith("policy policy-1")));
  });
});

test("a policy that the helper refuses rejects, and the next one is taken", async () => {
  const vm = await given(accepting, { network: "refuse" }).boot();
  await within(vm, async () => {
    const refusal = refused("invalid-argument", /No such policy/);
    await assert.rejects(vm.setNetwork(accepting), refusal);
    await assert.rejects(vm.setNetwork(network.rules([])), refusal);
  });
});

test("ports are published at boot and later, listed, and unpublished once", async () => {
  const publish = [{ guestPort: 80 }, { guestPort: 81, hostPort: 8081, host: "0.0.0.0" }];
  const vm = await given(network.rules([])).boot({ publish });
  await within(vm, async () => {
    const later = await vm.publish({ guestPort: 82 });
    assert.deepEqual(vm.published, [
      { guestPort: 80, hostPort: 40_001, hosts: ["127.0.0.1", "::1"] },
      { guestPort: 81, hostPort: 8081, hosts: ["0.0.0.0"] },
      { guestPort: 82, hostPort: 40_003, hosts: ["127.0.0.1", "::1"] },
    ]);
    await vm.unpublish(later);
    assert.equal(vm.published.length, 2);
    assert(setup.notes().includes("unpublish 3"));
    await assert.rejects(vm.unpublish(later), refused("invalid-argument", /^published: /));
    const copy = { guestPort: 80, hostPort: 40_001, hosts: [] };
    await assert.rejects(vm.unpublish(copy), refused("invalid-argument", /^published: /));
    const senseless = vm.publish({ guestPort: 0 });
    await assert.rejects(senseless, refused("invalid-argument", /^options\.guestPort: .*got 0/));
  });
});

test("a port that cannot be had fails the boot with its errno and leaves nothing", async () => {
  const sandbox = given(network.rules([]), { network: "refuse" });
  await assert.rejects(sandbox.boot({ publish: [{ guestPort: 80 }] }), (error: SandboxError) => {
    assert.deepEqual([error.code, error.errno], ["file-error", "EADDRINUSE"]);
    return true;
  });
});

test("publishing ends with an abort of the boot, with close, and with its deadline", async () => {
  const sandbox = given(network.rules([]), { network: "hang" });
  const control = new AbortController();
  const boot = sandbox.boot({ publish: [{ guestPort: 80 }], signal: control.signal });
  await setup.noted("publish 80 0 ");
  control.abort();
  await assert.rejects(boot, { name: "AbortError" });
  const vm = await sandbox.boot();
  limits.networkMs = 50;
  await assert.rejects(vm.publish({ guestPort: 81 }), refused("timeout", /in time/));
  limits.networkMs = 20_000;
  const pending = vm.publish({ guestPort: 82 });
  await setup.noted("publish 82 0 ");
  await vm.close();
  await assert.rejects(pending, refused("sandbox-closed", /closed/));
  await assert.rejects(vm.setNetwork(network.rules([])), refused("sandbox-closed", /closed/));
});

test("events of the network have their own types", async () => {
  const vm = await given(network.rules([])).boot();
  const types = new Set<VmEvent["type"]>();
  await vm.close();
  for await (const { type } of vm.events()) types.add(type);
  assert(types.has("callback-failed"));
});
