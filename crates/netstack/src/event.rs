//! What a stack tells its owner.

use crate::flow::Flow;

/// Receives events. Called on the data path: it must not wait.
pub type Observer = crate::observer::Observer<Event>;

/// Something worth knowing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A flow was refused.
    Denied {
        /// Which.
        flow: Flow,
        /// By what.
        reason: DenyReason,
        /// In words.
        detail: String,
    },
    /// A flow was accepted, and its destination could not be reached.
    DialFailed {
        /// Which.
        flow: Flow,
        /// Linux error number; 0 when the deadline passed.
        errno: i32,
    },
    /// A flow was accepted and its destination reached.
    Opened {
        /// Which.
        flow: Flow,
    },
    /// A flow that had been opened has ended.
    Closed {
        /// Which.
        flow: Flow,
        /// Bytes of payload from the guest.
        sent: u64,
        /// Bytes of payload to the guest.
        received: u64,
        /// How.
        end: FlowEnd,
    },
    /// Something was dropped. Told on the first, second, fourth, eighth … occasion.
    Dropped {
        /// Why.
        cause: Dropped,
        /// How often so far.
        total: u64,
    },
}

/// By what a flow was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The policy said no.
    Policy,
    /// The policy did not answer in time.
    Deadline,
    /// The policy panicked.
    PolicyFailed,
    /// The policy's verdict cannot be carried out for such a flow.
    Unsuitable,
    /// An address that is never dialled, or only by a grant that is missing.
    Address,
    /// A limit on flows was reached.
    Limit,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowEnd {
    /// Both sides were done.
    Finished,
    /// The guest reset it.
    GuestReset,
    /// The other side reset it.
    UpstreamReset,
    /// Nothing was heard from the guest for too long, or the flow was idle for too long.
    Expired,
    /// The stack was shut down.
    Shutdown,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why something was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dropped { $($(#[$doc])* $name,)* }

        impl Dropped {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

causes! {
    /// A frame or packet whose headers contradict themselves.
    Malformed,
    /// A checksum that does not fit.
    Checksum,
    /// TCP options whose lengths contradict themselves.
    TcpOptions,
    /// A frame from a hardware address that is not the guest's.
    SpoofedMac,
    /// A packet, ARP or neighbour message from an address that is not the guest's.
    SpoofedSource,
    /// A frame for somebody who is not on this link.
    OtherDestination,
    /// A fragment: they are not put together.
    Fragment,
    /// A protocol that is not carried.
    UnsupportedProtocol,
    /// A destination that cannot be one: unspecified, IPv4-mapped, the guest itself.
    BadDestination,
    /// Multicast and broadcast that nobody listens to; usual on any link.
    Multicast,
    /// A packet to the gateway that it does not answer.
    NotServed,
    /// A new flow above the limit.
    FlowLimit,
    /// A datagram for a flow that waits for its verdict and holds enough already.
    ParkedLimit,
    /// A query above the number that the resolver is given at once.
    ResolverLimit,
    /// A datagram that is larger than the link carries.
    TooBig,
    /// A datagram that the host did not take.
    HostBusy,
    /// A segment of no known connection.
    NoConnection,
    /// An answer of the gateway while the guest takes no frames.
    GuestBusy,
}
