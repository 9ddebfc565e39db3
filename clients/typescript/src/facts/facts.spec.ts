import assert from "node:assert/strict";
import { test } from "node:test";
import { network } from "../network.js";
import { rootfs } from "../rootfs.js";
import { defineSandbox } from "../sandbox.js";

const image = () =>
  rootfs.image({
    name: "debian:12",
    path: "/images/rootfs.qcow2",
    format: "qcow2",
    architecture: process.arch === "x64" ? "x86_64" : "aarch64",
    digest: `sha256:${"0".repeat(64)}`,
    sizeBytes: 1,
    facts: [
      { topic: "rootfs", relation: "write-mode", value: "none" },
      { topic: "distro", relation: "name", value: "debian" },
    ],
  });

test("a definition tells its facts without starting anything", () => {
  const resources = { cpus: 2, memoryMiB: 1024 };
  const facts = defineSandbox({ rootfs: image(), resources }).environmentFacts();
  assert.deepEqual(
    facts.map(({ source, topic, relation, value }) => [source, topic, relation, value].join(" ")),
    [
      "config rootfs image debian:12",
      "config rootfs write-mode none",
      "config distro name debian",
      "config network mode none",
      "config resources cpus 2",
      "config resources memory-mib 1024",
    ],
  );
});

test("a definition with a network says so", () => {
  const facts = defineSandbox({ rootfs: image(), network: network.rules([]) }).environmentFacts();
  assert.deepEqual(
    facts.filter(({ topic }) => topic === "network"),
    [{ source: "config", topic: "network", relation: "mode", value: "policy" }],
  );
});

test("a writable root tells how it is written, whatever its image says", () => {
  const modes = [
    rootfs.ephemeral({ base: image() }),
    rootfs.persistent({ base: image(), path: "/disk" }),
  ].map((root) => defineSandbox({ rootfs: root }).environmentFacts());
  const writeModes = modes.map((facts) =>
    facts.filter(({ relation }) => relation === "write-mode").map(({ value }) => value),
  );
  assert.deepEqual(writeModes, [["ephemeral"], ["persistent"]]);
});
