// Network: part of the API, refused by name in this version. A guest has no network device.
import { notSupported } from "./errors.js";

/** The guest's network. Not in this version: the guest has no network device. */
export const network = {
  /** Decides on each flow. Throws `not-supported`. */
  policy(..._args: unknown[]): never {
    throw notSupported(
      "network.policy",
      "Leave `network` out: the guest then has no network device",
    );
  },
} as const;
