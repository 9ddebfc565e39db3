// The ends of a flow. What kind of address it is comes with it, from the host.
import type { Endpoint } from "../gen/lanebox/v1/network_pb.js";

/** One end of a flow. */
export interface NetworkEndpoint {
  /** In the usual notation, such as `192.0.2.1` or `2001:db8::1`. */
  readonly ip: string;
  /** 0 to 65535; 0 where there are no ports. */
  readonly port: number;
  /** 127.0.0.0/8, ::1. */
  readonly isLoopback: boolean;
  /** RFC 1918, RFC 4193, shared address space (RFC 6598). */
  readonly isPrivate: boolean;
  /** 169.254.0.0/16, fe80::/10. */
  readonly isLinkLocal: boolean;
  /** 224.0.0.0/4, ff00::/8. */
  readonly isMulticast: boolean;
  /** 255.255.255.255, or that of the guest's network. */
  readonly isBroadcast: boolean;
  /** Set aside for examples in texts. */
  readonly isDocumentation: boolean;
  /** Set aside for other purposes. */
  readonly isReserved: boolean;
  /** None of these: the public Internet. */
  readonly isPublicInternet: boolean;
  /** Whether it stands for the host's loopback: 10.0.2.2 and fd00::2, `host.lanebox.internal`. A method. */
  isHost(): boolean;
}

/** The end of a flow that the host told of. What it leaves out is no kind of address. */
export function endpointOf(wire: Endpoint | undefined): NetworkEndpoint {
  const kind = wire?.class;
  const isHost = kind?.host ?? false;
  return {
    ip: wire?.ip ?? "",
    port: wire?.port ?? 0,
    isLoopback: kind?.loopback ?? false,
    isPrivate: kind?.private ?? false,
    isLinkLocal: kind?.linkLocal ?? false,
    isMulticast: kind?.multicast ?? false,
    isBroadcast: kind?.broadcast ?? false,
    isDocumentation: kind?.documentation ?? false,
    isReserved: kind?.reserved ?? false,
    isPublicInternet: kind?.publicInternet ?? false,
    isHost: () => isHost,
  };
}
