// Ports of the host that lead into the guest: what is asked for, and what was made of it.
import {
  type Check,
  integer,
  invalidUnseen,
  list,
  object,
  optional,
  withDefault,
} from "../validate.js";
import { address } from "./address.js";
import { port } from "./ports.js";

/** A port to publish, TCP. */
export interface PublishOptions {
  /** Port of the guest, 1 to 65535. */
  readonly guestPort: number;
  /** Port of the host, 1 to 65535; 0 for any that is free. Default: 0. */
  readonly hostPort?: number | undefined;
  /**
   * Address of the host to listen on, such as `"0.0.0.0"`. Default: 127.0.0.1 and, where there is IPv6,
   * ::1, at the same port.
   */
  readonly host?: string | undefined;
}

/** A published port. For `vm.unpublish`. */
export interface PublishedPort {
  /** Port of the guest. */
  readonly guestPort: number;
  /** Port of the host that is listened on. */
  readonly hostPort: number;
  /** Addresses of the host that are listened on. */
  readonly hosts: readonly string[];
}

/** Checked {@link PublishOptions}. */
export interface CheckedPublish {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly host: string | undefined;
}

/** Ports that `boot` publishes, at most. */
const PUBLISH_MAX = 64;

/** The check of a port to publish. */
export const publishOptions: Check<CheckedPublish> = object({
  guestPort: port,
  hostPort: withDefault(integer(0, 65_535), 0),
  host: optional(address),
});

/** The check of the option `publish` of `boot`. */
export const publishList: Check<CheckedPublish[]> = (value, path) => {
  const checked = list(publishOptions)(value ?? [], path);
  if (checked.length > PUBLISH_MAX) {
    throw invalidUnseen(path, `${checked.length} ports, where ${PUBLISH_MAX} are the most`);
  }
  return checked;
};
