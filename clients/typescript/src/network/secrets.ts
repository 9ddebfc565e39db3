// Credentials that the guest uses and never has. No error shows a value.
import { create } from "@bufbuild/protobuf";
import { SecretSchema, type Secret as WireSecret } from "../gen/lanebox/v1/network_pb.js";
import {
  boolean,
  type Check,
  invalidUnseen,
  object,
  oneOrMany,
  record,
  withDefault,
} from "../validate.js";
import { hostPattern } from "./host-pattern.js";

/** One credential. */
export interface SecretOptions {
  /** What goes upstream: ASCII that can stand in a header, 1 byte to 64 KiB. */
  readonly value: string;
  /** Trusted names that may have it, or `"*."` and a name for all below it; 1 to 256. */
  readonly hosts: string | readonly string[];
  /** Also in the query of the URL. Default: false. */
  readonly inQuery?: boolean | undefined;
}

/** A checked secret, as the host takes it. */
export type CheckedSecret = WireSecret;

/** Secrets of a VM, at most. */
export const SECRETS_MAX = 256;

const value: Check<string> = (given, path) => {
  if (typeof given !== "string" || !/^[\t\x20-\x7e]{1,65536}$/.test(given)) {
    const problem = "expected a string of 1 to 65536 ASCII characters without line ends";
    throw invalidUnseen(path, problem);
  }
  return given;
};

const secretOptions = object({
  value,
  hosts: oneOrMany(hostPattern, 256),
  inQuery: withDefault(boolean, false),
});

/** Checks the secrets. */
export function checkSecrets(given: unknown, path: string): CheckedSecret[] {
  const entries = Object.entries(record(given, path));
  if (entries.length > SECRETS_MAX) {
    throw invalidUnseen(path, `${entries.length} secrets, where ${SECRETS_MAX} are the most`);
  }
  return entries.map(([name, options]) => {
    const where = `${path}[${JSON.stringify(name)}]`;
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)) {
      throw invalidUnseen(where, "a name has letters, digits and underscores, and no digit first");
    }
    const { value, hosts, inQuery } = secretOptions(record(options, where), where);
    return create(SecretSchema, { name, value, hosts: hosts.map(({ text }) => text), inQuery });
  });
}
