//! The eventfds between guest and device.
//!
//! They come from outside and may be anything. They are made non-blocking, so that neither
//! reading nor writing one can hold up the device.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Tells the guest, or the front end, that something happened.
#[derive(Default)]
pub(crate) enum Notifier {
    /// Nobody is told: the other side polls.
    #[default]
    Nobody,
    File(File),
    /// Whatever raises the guest's interrupt. It does not wait.
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl Notifier {
    pub(crate) fn of_file(file: Option<File>) -> io::Result<Self> {
        let Some(file) = file else { return Ok(Self::Nobody) };
        set_nonblocking(&file)?;
        Ok(Self::File(file))
    }

    pub(crate) fn notify(&self) {
        match self {
            Self::Nobody => {}
            Self::File(file) => {
                let mut file = file;
                // It fails when the counter is full, and then the other side has yet to look
                // anyway; or when there is nobody, and then there is nobody to tell.
                let _ = file.write(&1u64.to_ne_bytes());
            }
            Self::Call(call) => call(),
        }
    }
}

/// Waits for the guest's notifications.
#[derive(Debug)]
pub(crate) struct Kick(AsyncFd<File>);

impl Kick {
    /// Must be called inside the runtime that will wait.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        set_nonblocking(&file)?;
        sys::await_readable(file).map(Self)
    }

    /// Waits until the guest has notified since the last time. Dropping it loses nothing.
    pub(crate) async fn wait(&self) -> io::Result<()> {
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
