/** A docker-registry on loopback, and images made by umoci and pushed by skopeo. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sha256 } from "./artifacts.js";

/** Milliseconds that a registry gets to listen, and to end. */
const PATIENCE_MS = 30_000;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Runs a program to its end; its output is in the error when it fails. */
function run(command: string, ...args: string[]): void {
  try {
    execFileSync(command, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 60_000 });
  } catch (error) {
    const { stderr, stdout, message } = error as Error & { stderr?: Buffer; stdout?: Buffer };
    throw new Error(`${message}\n${stdout ?? ""}${stderr ?? ""}`);
  }
}

/** The registry, and the repository `lane/tool` in it. */
export class OciRegistry {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.address = `127.0.0.1:${port}`;
    const config = join(folder, "config.yml");
    writeFileSync(
      config,
      `version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: ${join(folder, "blobs")} } }\nhttp: { addr: "${this.address}" }\n`,
    );
    this.#child = spawn("docker-registry", ["serve", config], { stdio: "ignore" });
  }

  static async start(): Promise<OciRegistry> {
    const folder = mkdtempSync(join(tmpdir(), "lanebox-registry-"));
    const registry = new OciRegistry(folder, await freePort());
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const answer = await fetch(`http://${registry.address}/v2/`).catch(() => undefined);
      if (answer?.ok) return registry;
      if (Date.now() > end || registry.#child.exitCode !== null) {
        await registry.close();
        throw new Error("docker-registry does not answer");
      }
      await sleep(50);
    }
  }

  /** Pushes an image of a layout under a tag; the digest of its manifest. */
  async push(layout: string, image: string, tag: string, ...options: string[]): Promise<string> {
    const to = `docker://${this.address}/lane/tool:${tag}`;
    run("skopeo", "copy", "--dest-tls-verify=false", ...options, `oci:${layout}:${image}`, to);
    return (await this.manifest(tag)).digest;
  }

  /** Puts an index over manifests that are there. */
  async putIndex(tag: string, images: Record<string, string>): Promise<string> {
    const manifests = [];
    for (const [architecture, of] of Object.entries(images)) {
      const { digest, size, mediaType } = await this.manifest(of);
      manifests.push({ mediaType, digest, size, platform: { os: "linux", architecture } });
    }
    const mediaType = "application/vnd.oci.image.index.v1+json";
    const body = JSON.stringify({ schemaVersion: 2, mediaType, manifests });
    const answer = await fetch(`http://${this.address}/v2/lane/tool/manifests/${tag}`, {
      method: "PUT",
      headers: { "content-type": mediaType },
      body,
    });
    if (!answer.ok) throw new Error(`the index is refused: ${await answer.text()}`);
    return sha256(Buffer.from(body));
  }

  /** What the registry has under a tag. */
  async manifest(tag: string) {
    const answer = await fetch(`http://${this.address}/v2/lane/tool/manifests/${tag}`, {
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
    });
    const body = Buffer.from(await answer.arrayBuffer());
    const layers = JSON.parse(body.toString()).layers as { mediaType: string }[];
    return {
      digest: sha256(body),
      size: body.byteLength,
      mediaType: answer.headers.get("content-type") ?? "",
      layers: layers.map((layer) => layer.mediaType),
    };
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGTERM");
      const killer = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE_MS);
      await ended;
      clearTimeout(killer);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * A layout with the image `tool`: busybox in its lowest layer, and three more that remove, replace and
 * hide; and `arm`, which is said to be for another processor.
 */
export function makeLayout(folder: string): string {
  const layout = join(folder, "layout");
  const bundle = join(folder, "bundle");
  const root = join(bundle, "rootfs");
  const rootless = process.getuid?.() === 0 ? [] : ["--rootless"];
  run("umoci", "init", "--layout", layout);
  run("umoci", "new", "--image", `${layout}:tool`);
  run("umoci", "unpack", ...rootless, "--image", `${layout}:tool`, bundle);
  const repack = () =>
    run("umoci", "repack", "--refresh-bundle", "--image", `${layout}:tool`, bundle);

  for (const name of ["bin", "etc", "data/kept", "data/old", "opaque"]) {
    mkdirSync(join(root, name), { recursive: true });
  }
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  chmodSync(join(root, "bin/busybox"), 0o4755);
  for (const applet of ["sh", "cat", "ls", "stat", "id", "touch", "test", "sync"]) {
    symlinkSync("busybox", join(root, "bin", applet));
  }
  writeFileSync(join(root, "etc/os-release"), 'ID=tool\nVERSION_ID=7\nPRETTY_NAME="Tool 7"\n');
  writeFileSync(join(root, "data/first"), "first");
  writeFileSync(join(root, "data/old/gone"), "gone");
  writeFileSync(join(root, "data/kept/replaced"), "old");
  writeFileSync(join(root, "opaque/below"), "below");
  repack();

  rmSync(join(root, "data/old"), { recursive: true });
  writeFileSync(join(root, "data/kept/replaced"), "new");
  linkSync(join(root, "data/first"), join(root, "data/second"));
  symlinkSync("/data/kept", join(root, "data/link"));
  repack();

  const source = join(folder, "opaque");
  mkdirSync(source);
  writeFileSync(join(source, "above"), "above");
  run("umoci", "insert", ...rootless, "--opaque", "--image", `${layout}:tool`, source, "/opaque");
  run("umoci", "insert", ...rootless, "--whiteout", "--image", `${layout}:tool`, "/data/kept/none");
  const said = [
    "--config.env",
    "TOOL=1",
    "--config.cmd",
    "/bin/sh",
    "--created",
    "2026-01-01T00:00:00Z",
  ];
  run(
    "umoci",
    "config",
    "--image",
    `${layout}:tool`,
    "--os",
    "linux",
    "--architecture",
    "amd64",
    ...said,
  );
  run("umoci", "config", "--image", `${layout}:tool`, "--tag", "arm", "--architecture", "arm64");
  return layout;
}
