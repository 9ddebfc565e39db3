//! What a connection's interface takes for its network card: the packet that is being looked at,
//! and the outbox.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken,
    TxToken,
};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use crate::wire::{ETHERNET_HEADER, Offload, Outbox, address_packet, fill_tcp_sum};

/// Longest packet that the device cuts.
const CUT_MAX: Option<NonZeroUsize> = NonZeroUsize::new(65_535);

/// Sequence and acknowledgement number of the last segment that was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    /// The number after the segment's last.
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
}

pub(super) struct Phy<'a> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) last: &'a mut Last,
    pub(super) guest: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) mac: EthernetAddress,
    pub(super) mtu: u16,
    pub(super) offload: bool,
}

pub(super) struct Rx<'a>(&'a [u8]);

pub(super) struct Tx<'a> {
    outbox: &'a mut Outbox,
    last: &'a mut Last,
    guest: IpAddr,
    destination: IpAddr,
    mac: EthernetAddress,
    offload: bool,
    cut: Option<u16>,
}

impl Phy<'_> {
    fn token(&mut self) -> Tx<'_> {
        Tx {
            outbox: self.outbox,
            last: self.last,
            guest: self.guest,
            destination: self.destination,
            mac: self.mac,
            offload: self.offload,
            cut: None,
        }
    }
}

impl Device for Phy<'_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.packet.take()?;
        Some((Rx(packet), self.token()))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        self.outbox.has_room().then(|| self.token())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // Sums have been checked at the door, and are written by the token.
        let mut sums = ChecksumCapabilities::ignored();
        sums.ipv4 = Checksum::Tx;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        capabilities.checksum = sums;
        if self.offload {
            // smoltcp 0.14 drops longer packets of IPv6 instead of leaving them to the device.
            capabilities.segmentation.tcpv4 = CUT_MAX;
        }
        capabilities
    }
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let v6 = self.guest.is_ipv6();
        let ip_header: u16 = if v6 { 40 } else { 20 };
        self.outbox.push_with(ETHERNET_HEADER + length, |frame| {
            let packet = address_packet(frame, self.mac, v6);
            let result = f(packet);
            let segment = &mut packet[usize::from(ip_header)..];
            fill_tcp_sum(self.destination, self.guest, segment, !self.offload);
            let tcp_header = u16::from(segment[12] >> 4) * 4;
            *self.last = Last::of(segment, usize::from(tcp_header));
            // 14 bytes.
            let start = 14 + ip_header;
            let offload = Offload { headers: start + tcp_header, start, size: self.cut, v6 };
            (result, self.offload.then_some(offload))
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut = meta.segmentation_offload_size.map(Into::into);
    }
}

impl Last {
    fn of(segment: &[u8], header: usize) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&segment[at..at + 4]);
            u32::from_be_bytes(bytes)
        };
        // SYN and FIN count as one.
        let flags = u32::from(segment[13] & 0x02 != 0) + u32::from(segment[13] & 0x01 != 0);
        // A segment is shorter than 64 KiB.
        let payload = u32::try_from(segment.len() - header).unwrap_or(0);
        let sequence = word(4).wrapping_add(payload).wrapping_add(flags);
        Self { sequence, acknowledged: word(8) }
    }
}
