//! Where the guest's serial port writes to.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::control::Control;

/// How long a processor waits for the reader before it looks at its orders.
const LOOK_MILLIS: u8 = 10;

/// The machine's end of the console. A reader that does not keep up holds the processor that
/// prints, but neither a pause nor the end of the machine.
pub(super) struct Console {
    socket: UnixStream,
    control: Arc<Control>,
    /// What was printed and not taken when the processors were to stop: a byte for each of them.
    late: VecDeque<u8>,
    is_closed: bool,
}

impl Console {
    pub(super) fn new(socket: UnixStream, control: Arc<Control>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, control, late: VecDeque::new(), is_closed: false })
    }

    /// Sends what there is, and waits for the reader if it must.
    fn send(&mut self) {
        while !self.late.is_empty() && !self.is_closed {
            match self.socket.write(self.late.make_contiguous()) {
                Ok(count) => drop(self.late.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.control.is_interrupted() {
                        return;
                    }
                    let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut sockets, PollTimeout::from(LOOK_MILLIS));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_closed = true,
            }
        }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_closed {
            self.late.extend(bytes);
            self.send();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
