//! What a stack can be told.

use std::time::Duration;

use crate::egress::EgressOptions;
use crate::error::Error;
use crate::wire::{MTU_MAX, MTU_MIN};

/// How a stack is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guest's hardware address. `None`: that of its first frame.
    pub guest_mac: Option<[u8; 6]>,
    /// Bytes of the largest packet on the link, 1280 to 65,520. The guest must be set to the same.
    pub mtu: u16,
    /// Limits.
    pub limits: Limits,
    /// How long the policy, or the resolver about one query, may take.
    pub policy_deadline: Duration,
    /// How to dial.
    pub egress: EgressOptions,
    /// How long the guest may take to answer a connection to one of its ports.
    pub guest_connect_timeout: Duration,
    /// What the thread of the data path does first, such as giving up rights.
    pub thread_begins: fn(),
}

/// Limits of one stack. What is above them is refused, counted and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections. The first 256 get buffers of 256 KiB for each direction, the others of 64.
    pub tcp: usize,
    /// UDP flows.
    pub udp: usize,
    /// Echo flows.
    pub icmp: usize,
    /// Flows of all kinds that wait for a verdict or for being dialled.
    pub undecided: usize,
    /// Queries that the resolver is given at once.
    pub queries: usize,
    /// TCP connections to ports of the guest, which count as TCP connections too.
    pub inbound: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tcp: 2048, udp: 1024, icmp: 64, undecided: 512, queries: 256, inbound: 1024 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            guest_mac: None,
            mtu: MTU_MAX,
            limits: Limits::default(),
            policy_deadline: Duration::from_secs(30),
            egress: EgressOptions::default(),
            guest_connect_timeout: Duration::from_secs(20),
            thread_begins: || {},
        }
    }
}

impl Config {
    pub(super) fn check(&self) -> Result<(), Error> {
        let option = |option, problem: String| Err(Error::Option { option, problem });
        if !(MTU_MIN..=MTU_MAX).contains(&self.mtu) {
            return option("mtu", format!("{} is not from {MTU_MIN} to {MTU_MAX}", self.mtu));
        }
        if self.guest_mac.is_some_and(|[first, ..]| first & 1 != 0) {
            return option("guest_mac", "is a group address".to_owned());
        }
        if self.policy_deadline.is_zero() {
            return option("policy_deadline", "is zero".to_owned());
        }
        if self.egress.connect_timeout.is_zero() {
            return option("egress.connect_timeout", "is zero".to_owned());
        }
        if self.guest_connect_timeout.is_zero() {
            return option("guest_connect_timeout", "is zero".to_owned());
        }
        if self.egress.half_open == 0 {
            return option("egress.half_open", "is zero".to_owned());
        }
        Ok(())
    }
}
