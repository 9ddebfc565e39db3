//! The eventfds between guest and device.
//!
//! They come from the front end and may be anything. They are made non-blocking, so that neither
//! reading nor writing one can hold up the device.

use std::fs::File;
use std::io::{self, Read, Write};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Tells the guest, or the front end, that something happened.
#[derive(Debug, Default)]
pub(super) struct Notifier(Option<File>);

impl Notifier {
    /// Without a file nobody is told: the other side polls.
    pub(super) fn new(file: Option<File>) -> io::Result<Self> {
        file.as_ref().map_or(Ok(()), set_nonblocking)?;
        Ok(Self(file))
    }

    pub(super) fn notify(&self) {
        if let Some(mut file) = self.0.as_ref() {
            // It fails when the counter is full, and then the other side has yet to look anyway;
            // or when there is nobody, and then there is nobody to tell.
            let _ = file.write(&1u64.to_ne_bytes());
        }
    }
}

/// Waits for the guest's notifications.
#[derive(Debug)]
pub(super) struct Kick(AsyncFd<File>);

impl Kick {
    /// Must be called inside the runtime that will wait.
    pub(super) fn new(file: File) -> io::Result<Self> {
        set_nonblocking(&file)?;
        sys::await_readable(file).map(Self)
    }

    /// Waits until the guest has notified since the last time. Dropping it loses nothing.
    pub(super) async fn wait(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut counter = [0; 8];
            match ready.try_io(|inner| inner.get_ref().read(&mut counter)) {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {
                    // Reading an eventfd empties it, and a notification after that is told anew: no
                    // second read is needed to find nothing. A front end that passes something that
                    // is not emptied loses its own notifications.
                    ready.clear_ready();
                    return Ok(());
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn set_nonblocking(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
