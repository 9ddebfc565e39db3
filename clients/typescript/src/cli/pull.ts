// `lanebox image pull`: an image of an OCI registry, as one that `rootfs.builtIn` finds.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { readImageDescriptor } from "../artifact-descriptor.js";
import { findImageBuilder } from "../image-builder.js";
import { beginImage, discard, keepImage } from "../pulled-images.js";
import type { PullCommand } from "./arguments.js";
import { Interrupt } from "./interrupt.js";
import { write } from "./output.js";

/** Pulls, and prints under which name the image is found, and where. */
export async function pullCommand(command: PullCommand): Promise<number> {
  const builder = await findImageBuilder();
  const interrupt = new Interrupt();
  const folder = await beginImage();
  let kept = false;
  try {
    const status = await build(builder, folder, command, interrupt.signal);
    if (interrupt.status !== undefined) return interrupt.status;
    if (status !== 0) return 1; // it has said why
    const { schema: _, ...image } = readImageDescriptor(join(folder, "image.json"));
    const directory = await keepImage(folder, image.name);
    kept = true;
    const path = join(directory, image.path);
    const shown = command.json
      ? `${JSON.stringify({ ...image, path }, null, 2)}\n`
      : `name    ${image.name}\npath    ${path}\ndigest  ${image.digest}\n`;
    await write(process.stdout, shown);
    return 0;
  } finally {
    interrupt.dispose();
    if (!kept) await discard(folder);
  }
}

/** Runs the builder to its end; its progress and its errors go to stderr. */
async function build(
  builder: string,
  folder: string,
  { reference, imageName, insecureRegistries, limits }: PullCommand,
  signal: AbortSignal,
): Promise<number | null> {
  const args = ["--oci", reference, "--output", folder];
  if (imageName !== undefined) args.push("--name", imageName);
  for (const registry of insecureRegistries) args.push("--insecure-registry", registry);
  for (const [option, value] of limits) args.push(option, value);
  const child = spawn(builder, args, { stdio: ["ignore", "ignore", "inherit"] });
  // Ctrl-C reaches it by itself; other signals do not.
  const stop = () => child.kill("SIGTERM");
  signal.addEventListener("abort", stop);
  try {
    const [status] = await once(child, "exit");
    return status;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
