// `lanebox cp`: a file or a tree of an image, copied to this machine through a VM of its own. The other
// direction would be gone with the VM, so it is refused.
import { bootLane, planBoot } from "../boot.js";
import { GuestFiles } from "../guest-files.js";
import { checkDefinition } from "../options.js";
import { rootfs } from "../rootfs.js";
import type { CopyCommand } from "./arguments.js";
import { Interrupt } from "./interrupt.js";
import { write } from "./output.js";

/** Boots, copies, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function copyCommand(options: CopyCommand): Promise<number> {
  const definition = checkDefinition({
    rootfs: rootfs.builtIn(options.image),
    isolation: { minimum: options.isolation },
  });
  const interrupt = new Interrupt();
  try {
    const [lane] = await bootLane(planBoot(definition, { signal: interrupt.signal }));
    try {
      interrupt.holds(lane);
      const files = new GuestFiles(lane);
      const signal = interrupt.giveUp;
      const { entries, bytes, skipped } = await files.copyOut(options.from, options.to, { signal });
      const left = skipped > 0 ? `, ${skipped} FIFOs, sockets or devices left out` : "";
      await write(process.stderr, `${entries} entries, ${bytes} bytes${left}\n`);
      return 0;
    } finally {
      await lane.close();
    }
  } catch (error) {
    if (interrupt.status !== undefined) return interrupt.status;
    throw error;
  } finally {
    interrupt.dispose();
  }
}
