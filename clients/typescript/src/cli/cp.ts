// `lanebox cp`: a file or a tree of an image, copied to this machine through a VM of its own. The other
// direction would be gone with the VM, so it is refused.
import { GuestFiles } from "../guest-files.js";
import type { CopyCommand } from "./arguments.js";
import { inLane } from "./in-lane.js";
import { write } from "./output.js";

/** Boots, copies, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function copyCommand(options: CopyCommand): Promise<number> {
  return inLane(options, async (lane, interrupt) => {
    const files = new GuestFiles(lane);
    const signal = interrupt.giveUp;
    const { entries, bytes, skipped } = await files.copyOut(options.from, options.to, { signal });
    const left = skipped > 0 ? `, ${skipped} FIFOs, sockets or devices left out` : "";
    await write(process.stderr, `${entries} entries, ${bytes} bytes${left}\n`);
    return 0;
  });
}
