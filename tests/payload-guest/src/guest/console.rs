//! The control port: the first port of a virtio-console device that has a name (virtio 1.2, 5.3).

use super::device::{Device, Devices, VERSION_1};
use super::queue::{Queue, WRITE};
use super::{CONTROL, Problem, sys};

/// Type of the device.
const CONSOLE: u32 = 3;
const MULTIPORT: u64 = 1 << 1;

const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Buffers of a queue that receives, and their size.
const BUFFERS: u64 = 16;
const BUFFER: u64 = 4096;
const DATA_BUFFERS: u64 = CONTROL;
const CONTROL_BUFFERS: u64 = CONTROL + BUFFERS * BUFFER;
const MESSAGE: u64 = CONTROL + 2 * BUFFERS * BUFFER;
const TRANSMIT: u64 = MESSAGE + BUFFER;
/// Most bytes that are sent at once: more than a ring of the host's can hold.
pub(crate) const MOST: u64 = 256 * 1024;

/// The port, open.
pub(crate) struct Port {
    /// Number of the device.
    pub(crate) device: usize,
    receive: usize,
    /// The buffer that is being read: its head, its rest.
    current: Option<(u16, u64, u64)>,
}

impl Port {
    /// Finds and opens it.
    pub(crate) fn open(devices: &mut Devices, rings: &mut u64) -> Result<Self, Problem> {
        for index in 0..devices.count {
            if devices.get(index)?.kind == CONSOLE {
                return Self::open_at(index, devices.get(index)?, rings);
            }
        }
        Err("there is no virtio-console device")
    }

    fn open_at(number: usize, device: &mut Device, rings: &mut u64) -> Result<Self, Problem> {
        let agreed = device.set_up(VERSION_1 | MULTIPORT, Queue::MAX_SIZE, rings)?;
        if agreed != VERSION_1 | MULTIPORT {
            return Err("the console has no ports");
        }
        post(device, CONTROL_RECEIVE, CONTROL_BUFFERS)?;
        send(device, 0, DEVICE_READY)?;
        let id = loop {
            let queue = device.queue(CONTROL_RECEIVE)?;
            let used = queue.wait()?;
            let (message, ..) = queue.read(used.head);
            let (id, event) = (sys::read32(message), sys::read16(message + 4));
            queue.push(used.head);
            device.notify(CONTROL_RECEIVE);
            match event {
                PORT_ADD => send(device, id, PORT_READY)?,
                PORT_NAME => break id,
                _ => {}
            }
        };
        // The first port has the first two queues, the second those after the control queues.
        let receive = if id == 0 { 0 } else { 2 + 2 * id as usize };
        post(device, receive, DATA_BUFFERS)?;
        send(device, id, PORT_OPEN)?;
        Ok(Self { device: number, receive, current: None })
    }

    /// The next bytes that came, if any have: where they are, and how many, at most `most`.
    pub(crate) fn receive(&mut self, device: &mut Device, most: u64) -> Option<(u64, u64)> {
        if let Some((head, _, 0)) = self.current {
            self.current = None;
            device.queue(self.receive).ok()?.push(head);
            device.notify(self.receive);
        }
        if self.current.is_none() {
            let queue = device.queue(self.receive).ok()?;
            let used = queue.take()?;
            let (address, ..) = queue.read(used.head);
            self.current = Some((used.head, address, used.length.into()));
        }
        let (_, address, rest) = self.current.as_mut()?;
        let length = most.min(*rest);
        let at = *address;
        *address += length;
        *rest -= length;
        Some((at, length))
    }

    /// Sends bytes, and waits until the device has taken them.
    pub(crate) fn send(&self, device: &mut Device, bytes: &[u8]) -> Result<(), Problem> {
        for piece in bytes.chunks(MOST as usize) {
            sys::write(TRANSMIT, piece);
            self.transmit(device, piece.len() as u64)?;
        }
        Ok(())
    }

    /// Sends a pattern that goes on from piece to piece.
    pub(crate) fn pour(&self, device: &mut Device, length: u64, seed: u64) -> Result<(), Problem> {
        let mut sent = 0;
        while sent < length {
            let piece = MOST.min(length - sent);
            sys::fill_pattern(TRANSMIT, piece, seed + sent / 8);
            self.transmit(device, piece)?;
            sent += piece;
        }
        Ok(())
    }

    fn transmit(&self, device: &mut Device, length: u64) -> Result<(), Problem> {
        submit(device, self.receive + 1, TRANSMIT, length)
    }
}

/// Fills a queue with buffers for the device to write.
fn post(device: &mut Device, index: usize, buffers: u64) -> Result<(), Problem> {
    let queue = device.queue(index)?;
    for number in 0..BUFFERS.min(queue.size.into()) {
        let head = queue.allocate()?;
        queue.write(head, buffers + number * BUFFER, BUFFER as u32, WRITE, 0);
        queue.push(head);
    }
    device.notify(index);
    Ok(())
}

/// Sends a control message with the value 1.
fn send(device: &mut Device, id: u32, event: u16) -> Result<(), Problem> {
    sys::write32(MESSAGE, id);
    sys::write16(MESSAGE + 4, event);
    sys::write16(MESSAGE + 6, 1);
    submit(device, CONTROL_TRANSMIT, MESSAGE, 8)
}

fn submit(device: &mut Device, index: usize, address: u64, length: u64) -> Result<(), Problem> {
    let queue = device.queue(index)?;
    let head = queue.allocate()?;
    queue.write(head, address, length as u32, 0, 0);
    queue.push(head);
    device.notify(index);
    let queue = device.queue(index)?;
    let used = queue.wait()?;
    queue.release(used.head);
    Ok(())
}
