//! What threads are for, and the lists that make up what each may call.

use super::apply::Facts;
use super::calls::{self, List};

/// What a thread is for. It can do what its creator can and its role allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The first thread: the event loop, and what starts all others.
    Main,
    /// A thread of the main runtime's pool: probes, opens and hashes files.
    Blocking,
    /// Writes the log.
    Log,
    /// Starts the engine's process, and becomes it.
    Launcher,
    /// Speaks with the engine's process and waits for its end.
    Keeper,
    /// Serves the rings of a device, with its pool: disks and filesystems.
    Device,
    /// Speaks vhost-user with the engine.
    DeviceControl,
    /// Follows changes in a host directory.
    Watch,
    /// Moves frames and bytes of the network.
    Network,
    /// Builds a machine in this process. The threads of its processors and devices are born from it.
    Machine,
    /// Runs a virtual processor.
    Processor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 11] = [
        Self::Main,
        Self::Blocking,
        Self::Log,
        Self::Launcher,
        Self::Keeper,
        Self::Device,
        Self::DeviceControl,
        Self::Watch,
        Self::Network,
        Self::Machine,
        Self::Processor,
    ];

    /// Whether its files may be those of others, where root serves them.
    pub(super) fn uses_files(self) -> bool {
        matches!(self, Self::Main | Self::Blocking | Self::Device | Self::Watch | Self::Machine)
    }

    /// The lists of a role.
    pub(super) fn lists(self, facts: Facts) -> Vec<List> {
        let mut lists = vec![calls::COMMON];
        match self {
            // What others may, it must be able to hand on.
            Self::Main => {
                lists.extend([calls::FILES, calls::SOCKETS, calls::EVENTS, calls::THREADS]);
                lists.extend([calls::LOCAL_SOCKETS, calls::CHILDREN, calls::KVM, calls::STORE]);
                lists.extend([calls::DEBUG_SOCKET, calls::SHARED_MEMORY, calls::PROCESSOR]);
                lists.extend(facts.host_directories());
                lists.extend(facts.internet());
            }
            Self::Blocking => {
                lists.extend([calls::FILES, calls::SOCKETS, calls::EVENTS, calls::THREADS]);
                lists.extend([calls::CHILDREN, calls::KVM, calls::STORE, calls::LOCAL_SOCKETS]);
                lists.extend(facts.host_directories());
            }
            Self::Log => {}
            Self::Launcher => lists.extend([calls::ENGINE]),
            Self::Keeper => lists.extend([calls::SOCKETS, calls::EVENTS, calls::CHILDREN]),
            Self::Device => {
                lists.extend([calls::FILES, calls::SOCKETS, calls::EVENTS, calls::THREADS]);
                lists.extend([calls::STORE]);
                lists.extend(facts.host_directories());
            }
            Self::DeviceControl => {
                lists.extend([calls::SOCKETS, calls::EVENTS, calls::SHARED_MEMORY]);
            }
            Self::Watch => lists.extend([calls::EVENTS, calls::FILES, calls::WATCHES]),
            Self::Network => {
                lists.extend([calls::SOCKETS, calls::EVENTS]);
                lists.extend(facts.internet());
            }
            Self::Machine => {
                lists.extend([calls::SOCKETS, calls::EVENTS, calls::THREADS, calls::KVM]);
                lists.extend([calls::FILES, calls::STORE, calls::PROCESSOR]);
                lists.extend(facts.host_directories());
            }
            Self::Processor => {
                lists.extend([calls::EVENTS, calls::KVM, calls::PROCESSOR]);
            }
        }
        lists
    }
}
