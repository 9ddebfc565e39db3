//! Messages of the two queues for control (virtio 1.2, 5.3.6.2): port, event and value, and after
//! PORT_NAME the name.

/// The driver is there.
const DEVICE_READY: u16 = 0;
/// A port is there.
const PORT_ADD: u16 = 1;
/// The driver has made a port usable.
const PORT_READY: u16 = 3;
/// One side has opened or closed its end.
const PORT_OPEN: u16 = 6;
/// What a port is called.
const PORT_NAME: u16 = 7;

/// Bytes of a message without a name.
pub(super) const MESSAGE_BYTES: usize = 8;
/// The number of the named port.
pub(super) const PORT: u32 = 1;

/// What the driver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FromDriver {
    /// It is there, and wants to know the ports.
    DeviceReady,
    /// It has the port.
    PortReady,
    /// A program has opened the port, or closed it.
    PortOpen(bool),
    /// Nothing that matters here.
    Other,
}

impl FromDriver {
    pub(super) fn parse(bytes: [u8; MESSAGE_BYTES]) -> Self {
        let [p0, p1, p2, p3, e0, e1, v0, v1] = bytes;
        let port = u32::from_le_bytes([p0, p1, p2, p3]);
        let event = u16::from_le_bytes([e0, e1]);
        let value = u16::from_le_bytes([v0, v1]);
        match (event, port, value) {
            (DEVICE_READY, _, 1) => Self::DeviceReady,
            (PORT_READY, PORT, 1) => Self::PortReady,
            (PORT_OPEN, PORT, open) => Self::PortOpen(open != 0),
            _ => Self::Other,
        }
    }
}

/// The port is there.
pub(super) fn port_add() -> Vec<u8> {
    message(PORT_ADD, 1)
}

/// What it is called.
pub(super) fn port_name(name: &str) -> Vec<u8> {
    let mut message = message(PORT_NAME, 1);
    message.extend_from_slice(name.as_bytes());
    message.push(0);
    message
}

/// Whether the host has it open.
pub(super) fn port_open(open: bool) -> Vec<u8> {
    message(PORT_OPEN, u16::from(open))
}

fn message(event: u16, value: u16) -> Vec<u8> {
    let mut bytes = PORT.to_le_bytes().to_vec();
    bytes.extend_from_slice(&event.to_le_bytes());
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_says_of_other_ports_is_nothing() {
        let parse =
            |port: u8, event: u8, value: u8| FromDriver::parse([port, 0, 0, 0, event, 0, value, 0]);
        assert_eq!(parse(0, 0, 1), FromDriver::DeviceReady);
        assert_eq!(parse(0, 0, 0), FromDriver::Other);
        assert_eq!(parse(1, 3, 1), FromDriver::PortReady);
        assert_eq!(parse(0, 3, 1), FromDriver::Other);
        assert_eq!(parse(1, 6, 1), FromDriver::PortOpen(true));
        assert_eq!(parse(1, 6, 0), FromDriver::PortOpen(false));
        assert_eq!(parse(2, 6, 1), FromDriver::Other);
        assert_eq!(parse(1, 200, 1), FromDriver::Other);
    }

    #[test]
    fn messages_are_as_the_specification_has_them() {
        assert_eq!(port_add(), [1, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(port_name("ab"), [1, 0, 0, 0, 7, 0, 1, 0, b'a', b'b', 0]);
        assert_eq!(port_open(false), [1, 0, 0, 0, 6, 0, 0, 0]);
    }
}
