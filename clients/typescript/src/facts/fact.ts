// Facts about an environment, as triples that can be told to an agent.

/**
 * One fact. `source` tells where it is from: `"config"` is what the definition and the image's
 * descriptor say, `"guest"` what was observed in the running guest. A topic and a relation can come
 * several times.
 *
 * | topic | relation | value | source |
 * |---|---|---|---|
 * | `rootfs` | `image` | name of the image, `debian:12` | config |
 * | `rootfs` | `write-mode` | `none`, `ephemeral`, `cow`, `persistent` | config |
 * | `rootfs` | `mounted` | `read-only`, `read-write` | guest |
 * | `distro` | `name`, `version`, `title` | of /etc/os-release: `ID`, `VERSION_ID`, `PRETTY_NAME` | both |
 * | `kernel` | `release` | `uname -r` | guest |
 * | `package-manager` | `name` | `apt`, `apk`, `dnf`, … or `none` | both |
 * | `shell` | `default` | absolute path of root's shell | both |
 * | `user` | `exists` | name of an ordinary user | both |
 * | `directory` | `exists` | absolute path | config |
 * | `command` | `exists` | name of a program that is found in PATH; only well-known ones are looked for | both |
 * | `network` | `mode` | `none`, `policy` | config |
 * | `network` | `interface` | name of an interface other than `lo` | guest |
 * | `resources` | `cpus` | number of processors | both |
 * | `resources` | `memory-mib` | MiB that the machine was given; in the guest, that its kernel can use | both |
 */
export interface EnvironmentFact {
  readonly source: "config" | "guest";
  readonly topic: string;
  readonly relation: string;
  readonly value: string;
}

/** Makes facts of one source. */
export function factsFrom(
  source: EnvironmentFact["source"],
): (topic: string, relation: string, value: string) => EnvironmentFact {
  return (topic, relation, value) => Object.freeze({ source, topic, relation, value });
}
