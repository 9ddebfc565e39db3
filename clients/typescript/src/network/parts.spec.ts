// The parts of a network as options: what is accepted, what goes to the host, what is refused.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inspect } from "node:util";
import { AllowedTraffic } from "../gen/lanebox/v1/network_pb.js";
import { network } from "../network.js";
import { checkDefinition } from "../options.js";
import { rootfs } from "../rootfs.js";
import { FAKE_IMAGE, refused, setUp } from "../testing/harness.js";
import { networkOption, wireNetwork } from "./definition.js";
import type { NetworkRule } from "./rules.js";

const folder = mkdtempSync(join(tmpdir(), "lanebox-roots-"));
after(() => rmSync(folder, { recursive: true }));
const request =
  "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test";
execFileSync("openssl", [...request.split(" "), "-keyout", "key", "-out", "root"], {
  cwd: folder,
  stdio: "pipe",
});
const root = readFileSync(join(folder, "root"), "utf8");
const key = readFileSync(join(folder, "key"), "utf8");

function rule(given: NetworkRule) {
  const [checked] = networkOption(network.rules([given]), "network").rules;
  assert(checked !== undefined);
  return checked;
}

test("rules go to the host as they are meant", () => {
  const dns = rule({ allow: "dns", host: "*.Example.com.", resolvers: "127.0.0.1:53" });
  assert.equal(dns.allow, AllowedTraffic.DNS);
  assert.equal(dns.host, "*.example.com");
  assert.deepEqual(dns.resolvers, ["127.0.0.1:53"]);
  const http = rule({
    allow: "http",
    host: "api.example.com",
    ports: [443, "8000-8100"],
    headers: { Authorization: "Bearer x", "X-Two": ["1", "2"] },
    allowPrivate: true,
  });
  assert.deepEqual(
    http.ports.map(({ first, last }) => [first, last]),
    [
      [443, 443],
      [8000, 8100],
    ],
  );
  assert.deepEqual(
    http.headers.map(({ name, value }) => `${name}: ${Buffer.from(value)}`),
    ["authorization: Bearer x", "x-two: 1", "x-two: 2"],
  );
  assert(http.allowPrivate);
  const udp = rule({ allow: "udp", to: ["192.0.2.0/24", "2001:db8::1"], ports: 123 });
  assert.deepEqual(udp.to, ["192.0.2.0/24", "2001:db8::1"]);
  assert.deepEqual(rule({ allow: "tcp", to: "10.0.0.0/8" }).to, ["10.0.0.0/8"]);
});

const badRules: [unknown, RegExp][] = [
  [{ allow: "icmp" }, /rules\[0\]\.allow: .*'icmp'/],
  [{}, /rules\[0\]\.allow/],
  ["dns", /rules\[0\]: expected an object/],
  [{ allow: "tcp", hosts: "a" }, /rules\[0\]\.hosts: unknown option/],
  [{ allow: "tcp", host: "1.2.3.4" }, /rules\[0\]\.host: .*'1.2.3.4'/],
  [{ allow: "tcp", to: "example.com" }, /rules\[0\]\.to: .*'example.com'/],
  [{ allow: "tcp", to: ["10.0.0.1/8"] }, /rules\[0\]\.to\[0\]: .*'10.0.0.1\/8'/],
  [{ allow: "tcp", to: [] }, /rules\[0\]\.to: expected 1 to 256/],
  [{ allow: "tcp", ports: [] }, /rules\[0\]\.ports: expected 1 to 256/],
  [{ allow: "tcp", ports: "80" }, /rules\[0\]\.ports: .*'80'/],
  [{ allow: "tcp", ports: [1, 65536] }, /rules\[0\]\.ports\[1\]: .*65536/],
  [{ allow: "http", headers: { a: "b" } }, /rules\[0\]\.headers: they may be credentials/],
  [{ allow: "tcp", headers: { a: "b" } }, /rules\[0\]\.headers: it is for allow: "http"/],
  [{ allow: "tcp", resolvers: ["1.1.1.1"] }, /rules\[0\]\.resolvers: it is for allow: "dns"/],
  [{ allow: "tcp", allowPrivate: true }, /rules\[0\]\.allowPrivate/],
  [{ allow: "dns", host: "a.example", allowPrivate: true }, /rules\[0\]\.allowPrivate/],
  [{ allow: "dns", to: "1.1.1.1", resolvers: ["1.1.1.1"] }, /rules\[0\]\.resolvers/],
  [{ allow: "dns", to: "1.1.1.1", host: "a.example" }, /rules\[0\]\.host/],
  [{ allow: "dns", ports: 53 }, /rules\[0\]\.ports/],
  [{ allow: "http", host: "a.example", headers: { "a b": "x" } }, /rules\[0\]\.headers\["a b"\]/],
  [{ allow: "http", host: "a.example", headers: [["a"]] }, /rules\[0\]\.headers\[0\]/],
];

for (const [given, message] of badRules) {
  test(`the rule ${JSON.stringify(given)} is refused by name`, () => {
    assert.throws(
      () => network.rules([given as NetworkRule]),
      refused("invalid-argument", message),
    );
  });
}

test("there are limits to rules and their headers", () => {
  const many = (count: number) => Array<NetworkRule>(count).fill({ allow: "tcp" });
  assert.throws(() => network.rules(many(1025)), /1025 rules, where 1024/);
  const parts = [network.rules(many(1000)), network.rules(many(25))];
  assert.throws(() => networkOption(parts, "options.network"), /options\.network: 1025 rules/);
  const headers = { a: "x".repeat(65 * 1024) };
  assert.throws(
    () => network.rules([{ allow: "http", host: "a.example", headers }]),
    /headers: more than 64 fields/,
  );
  assert.throws(() => network.rules({} as never), /rules: expected an array/);
});

test("credentials are in no error and do not print", () => {
  const value = "s3cret-\n";
  const wrong: (() => unknown)[] = [
    () => network.rules([{ allow: "http", host: "a.example", headers: { authorization: value } }]),
    () => network.rules([{ allow: "http", host: "a.example", headers: value as never }]),
    () => network.rules([value as never]),
    () => network.secrets({ TOKEN: value as never }),
    () => network.secrets({ TOKEN: { value, hosts: "a.example" } }),
    () => network.secrets(value as never),
    () => network.secrets([value] as never),
  ];
  for (const make of wrong) {
    assert.throws(make, (error: Error) => {
      assert(refused("invalid-argument", /^(rules|secrets)/)(error));
      assert(!inspect(error).split("\n")[0]?.includes("s3cret"), error.message);
      return !error.message.includes("s3cret");
    });
  }
  const secrets = network.secrets({ TOKEN: { value: "s3cret", hosts: "a.example" } });
  const rules = network.rules([
    { allow: "http", host: "a.example", headers: { authorization: "s3cret" } },
  ]);
  for (const part of [secrets, rules]) {
    assert.doesNotMatch(inspect(part, { depth: 9, showHidden: true }), /s3cret/);
    assert.doesNotMatch(JSON.stringify(part), /s3cret/);
  }
  assert.throws(
    () => networkOption([secrets, { TOKEN: "s3cret" }], "options.network"),
    (error: Error) => /options\.network\[1\]/.test(error.message) && !/s3cret/.test(error.message),
  );
});

test("secrets go to the host as they are meant", () => {
  const secrets = network.secrets({
    A_1: { value: "x", hosts: ["API.example.com.", "*.example.org"], inQuery: true },
    _b: { value: "y z", hosts: "b.example" },
  });
  const wire = wireNetwork(networkOption(secrets, "network"), "p");
  assert.deepEqual(
    wire.secrets.map(({ name, value, hosts, inQuery }) => [name, value, hosts, inQuery]),
    [
      ["A_1", "x", ["api.example.com", "*.example.org"], true],
      ["_b", "y z", ["b.example"], false],
    ],
  );
});

const badSecrets: [unknown, RegExp][] = [
  [{ "1A": { value: "x", hosts: "a.example" } }, /secrets\["1A"\]: a name/],
  [{ "A-B": { value: "x", hosts: "a.example" } }, /secrets\["A-B"\]: a name/],
  [{ A: { value: "", hosts: "a.example" } }, /secrets\["A"\]\.value/],
  [{ A: { value: "ä", hosts: "a.example" } }, /secrets\["A"\]\.value/],
  [{ A: { value: 7, hosts: "a.example" } }, /secrets\["A"\]\.value/],
  [{ A: { value: "x", hosts: [] } }, /secrets\["A"\]\.hosts: expected 1/],
  [{ A: { value: "x" } }, /secrets\["A"\]\.hosts/],
  [{ A: { value: "x", hosts: ["10.0.0.1"] } }, /secrets\["A"\]\.hosts\[0\]: .*'10.0.0.1'/],
  [{ A: { value: "x", hosts: "a.example", inquery: true } }, /inquery: unknown option/],
];

for (const [given, message] of badSecrets) {
  test(`the secrets ${JSON.stringify(given)} are refused by name`, () => {
    assert.throws(() => network.secrets(given as never), refused("invalid-argument", message));
  });
}

test("a policy has a deadline and roots, both checked", () => {
  const policy = network.policy(() => undefined, { deadlineMs: 5, extraRoots: [root, root] });
  const { policy: wire } = wireNetwork(networkOption(policy, "network"), "p-1");
  assert.deepEqual([wire?.callbacks?.id, wire?.callbacks?.deadlineMs], ["p-1", 5]);
  assert.deepEqual(wire?.extraRoots, [root, root]);
  const plain = wireNetwork(
    networkOption(
      network.policy(() => undefined),
      "network",
    ),
    "p",
  );
  assert.equal(plain.policy?.callbacks?.deadlineMs, 30_000);
  const rules = wireNetwork(networkOption(network.rules([], { extraRoots: root }), "network"), "p");
  assert.deepEqual([rules.policy?.callbacks, rules.policy?.extraRoots], [undefined, [root]]);
});

for (const [given, options, message] of [
  [7, undefined, /network\.policy: expected a function, got 7/],
  [() => undefined, { deadlineMs: 0 }, /options\.deadlineMs: .*got 0/],
  [() => undefined, { deadlineMs: 3_600_001 }, /options\.deadlineMs/],
  [() => undefined, { deadline: 1 }, /options\.deadline: unknown option/],
  [() => undefined, { extraRoots: ["/etc/ssl/ca.pem"] }, /extraRoots\[0\]: no certificate/],
  [
    () => undefined,
    { extraRoots: root.replace("MII", "MIX") },
    /extraRoots: certificate 1 is none/,
  ],
  [() => undefined, { extraRoots: root + key }, /extraRoots: a private key/],
  [() => undefined, { extraRoots: [7] }, /extraRoots\[0\]: expected a string/],
  [() => undefined, { extraRoots: "x".repeat(2 ** 20 + 1) }, /extraRoots: more than 1 MiB/],
] as [never, never, RegExp][]) {
  test(`a policy that makes no sense is refused (${message})`, () => {
    assert.throws(() => network.policy(given, options), refused("invalid-argument", message));
  });
}

test("parts compose: rules in order, one callback, secrets merged", () => {
  const parts = [
    network.rules([{ allow: "dns" }]),
    network.secrets({ A: { value: "x", hosts: "a.example" } }),
    network.policy(() => undefined),
    network.rules([{ allow: "tcp" }], { extraRoots: root }),
    network.secrets({ B: { value: "y", hosts: "b.example" } }),
  ];
  const definition = networkOption(parts, "network");
  assert.deepEqual(
    definition.rules.map(({ allow }) => allow),
    [AllowedTraffic.DNS, AllowedTraffic.TCP],
  );
  assert.deepEqual(
    definition.secrets.map(({ name }) => name),
    ["A", "B"],
  );
  assert.deepEqual(definition.extraRoots, [root]);
  assert(definition.policy !== undefined);
});

test("parts that do not go together are refused by name", () => {
  const setup = setUp();
  const base = { rootfs: rootfs.builtIn(FAKE_IMAGE) };
  setup.remove();
  const a = network.secrets({ A: { value: "x", hosts: "a.example" } });
  const policy = network.policy(() => undefined);
  const wrong: [unknown, RegExp][] = [
    [[a, network.secrets({ A: { value: "y", hosts: "b.example" } })], /network\[1\]: the secret A/],
    [[a, a], /options\.network\[1\]: the secret A is given twice/],
    [[policy, network.policy(() => undefined)], /options\.network\[1\]: a second callback/],
    [[policy, undefined], /options\.network\[1\]: expected what a function of `network`/],
    [{}, /options\.network: expected what a function of `network`/],
    [null, /options\.network/],
    [async () => undefined, /options\.network/],
  ];
  for (const [network, message] of wrong) {
    assert.throws(
      () => checkDefinition({ ...base, network }),
      refused("invalid-argument", message),
    );
  }
  assert.equal(checkDefinition(base).network, undefined);
  assert.deepEqual(checkDefinition({ ...base, network: [] }).network?.rules, []);
});
