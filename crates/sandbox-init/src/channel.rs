//! The control channel: the virtio-console port named [`protocol::CONTROL_PORT`] as a byte stream.
//! Read virtio 1.2, section 5.3 (console device), and drivers/char/virtio_console.c of Linux for
//! what the port's file does.
//!
//! ```text
//! /sys/class/virtio-ports/vportNpM/name ─► /dev/vportNpM ─► wait for the host ─► ControlPort
//! ```
//! A port can be opened once; while we hold it the workload gets EBUSY. While the host's side is
//! closed poll(2) tells POLLHUP and reads return 0: before the first byte that means "wait", later
//! it is the end of the channel, and with it of the machine.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::limits::{HOST_DEADLINE, LOOK_AGAIN, PORT_DEADLINE};
use crate::sys::watch::watch;

const PORTS: &str = "/sys/class/virtio-ports";

/// Waits for the port of this name and returns the path of its device.
pub(crate) fn find(name: &str) -> io::Result<PathBuf> {
    let started = Instant::now();
    loop {
        if let Some(device) = look_for(Path::new(PORTS), name)? {
            return Ok(Path::new("/dev").join(device));
        }
        if started.elapsed() > PORT_DEADLINE {
            let text = format!("no virtio-console port is named {name:?}");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Looks once. A folder that is not there yet, or a port that has no name yet, is no error.
fn look_for(ports: &Path, wanted: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(ports) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == wanted {
            return Ok(Some(entry.file_name().into()));
        }
    }
    Ok(None)
}

/// Opens the port's device and waits until the host has opened its side.
pub(crate) fn open(device: &Path) -> io::Result<OwnedFd> {
    let file: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(device)?
        .into();
    let started = Instant::now();
    loop {
        let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO)?;
        let hung_up = polled
            .first()
            .and_then(PollFd::revents)
            .is_none_or(|events| events.contains(PollFlags::POLLHUP));
        if !hung_up {
            return Ok(file);
        }
        if started.elapsed() > HOST_DEADLINE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the host does not open its side"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The open port.
#[derive(Debug)]
pub(crate) struct ControlPort {
    file: AsyncFd<OwnedFd>,
}

impl ControlPort {
    /// Takes the open, non-blocking port into the runtime of the caller.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        Ok(Self { file: watch(file, Interest::READABLE | Interest::WRITABLE)? })
    }
}

impl AsyncRead for ControlPort {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_read_ready(cx))?;
            match nix::unistd::read(&self.file, buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }
}

impl AsyncWrite for ControlPort {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.file.poll_write_ready(cx))?;
            match nix::unistd::write(&self.file, bytes) {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                result => return Poll::Ready(result.map_err(io::Error::from)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How many bytes a channel has carried to the host: tells that an answer has left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<AtomicU64>);

impl Written {
    /// The count so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A byte stream that keeps [`Written`] up to date.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    stream: S,
    written: Written,
}

impl<S> Counted<S> {
    /// Counts what is written to `stream`.
    pub(crate) fn new(stream: S, written: Written) -> Self {
        Self { stream, written }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.written.0.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_found_by_its_name_among_others() {
        let ports = tempfile::tempdir().unwrap();
        for (device, name) in [("vport1p1", "other\n"), ("vport2p1", "lanebox.control\n")] {
            fs::create_dir(ports.path().join(device)).unwrap();
            fs::write(ports.path().join(device).join("name"), name).unwrap();
        }
        fs::create_dir(ports.path().join("vport3p1")).unwrap();
        let found = look_for(ports.path(), "lanebox.control").unwrap();
        assert_eq!(found, Some(PathBuf::from("vport2p1")));
        assert_eq!(look_for(ports.path(), "lanebox").unwrap(), None);
        assert_eq!(look_for(&ports.path().join("missing"), "lanebox").unwrap(), None);
    }
}
