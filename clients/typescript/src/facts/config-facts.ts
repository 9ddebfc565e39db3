// What a definition says about the environment before anything runs.
import type { Definition } from "../options.js";
import { RootfsImage } from "../rootfs-image.js";
import type { Rootfs } from "../writable-rootfs.js";
import { type EnvironmentFact, factsFrom } from "./fact.js";

const fact = factsFrom("config");

/** The facts of a definition. */
export function configFacts(definition: Definition): EnvironmentFact[] {
  const { rootfs, resources, network } = definition;
  const image = rootfs instanceof RootfsImage ? rootfs : rootfs.base;
  const ofImage = image.facts.filter(({ topic }) => topic !== "rootfs");
  return [
    fact("rootfs", "image", image.name),
    fact("rootfs", "write-mode", writeMode(rootfs)),
    ...ofImage.map(({ topic, relation, value }) => fact(topic, relation, value)),
    fact("network", "mode", network === undefined ? "none" : "policy"),
    fact("resources", "cpus", String(resources.cpus)),
    fact("resources", "memory-mib", String(resources.memoryMiB)),
  ];
}

function writeMode(rootfs: Rootfs): string {
  if (rootfs instanceof RootfsImage) return "none";
  return { memory: "ephemeral", callbacks: "cow", file: "persistent" }[rootfs.overlay.kind];
}
