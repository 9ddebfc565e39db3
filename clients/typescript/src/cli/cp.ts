// `lanebox cp`: a file or a tree, copied between this machine and an image or a persistent root, through
// a VM of its own.
import { GuestFiles } from "../guest-files.js";
import type { CopyCommand } from "./arguments.js";
import { inLane } from "./in-lane.js";
import { write } from "./output.js";

/** Boots, copies, closes. Resolves with the exit status; rejects with errors of Lanebox. */
export async function copyCommand(options: CopyCommand): Promise<number> {
  return inLane(options, async (lane, interrupt) => {
    const files = new GuestFiles(lane);
    const signal = interrupt.giveUp;
    const { guestPath, hostPath } = options;
    const { entries, bytes, skipped } =
      options.direction === "in"
        ? await files.copyIn(hostPath, guestPath, { signal })
        : await files.copyOut(guestPath, hostPath, { signal });
    const left = skipped > 0 ? `, ${skipped} FIFOs, sockets or devices left out` : "";
    await write(process.stderr, `${entries} entries, ${bytes} bytes${left}\n`);
    return 0;
  });
}
