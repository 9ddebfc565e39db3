//! The debug socket: a second way in, for people with grpcurl, when `--debug-socket` asks for it.
//!
//! Its mode is 0600 from the moment it exists, peers must be this process's user (SO_PEERCRED), and
//! the file is removed when the [`DebugSocket`] or its connections' stream is dropped. An existing
//! path is refused, whatever it is. What can be called there is decided in `service`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{Stream, stream};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Uid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::MAX_DEBUG_CONNECTIONS;
use crate::watched::Watched;

const BACKLOG: i32 = 8;
/// After an error of accept(2), such as no descriptors.
const RETRY: std::time::Duration = std::time::Duration::from_millis(100);

/// A connection to the debug socket.
pub type DebugConnection = Watched<UnixStream, OwnedSemaphorePermit>;

/// The debug socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("--debug-socket {}: {problem}", .path.display())]
pub struct DebugSocketError {
    /// The path of the option.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
}

/// A listening socket that removes its file.
#[derive(Debug)]
pub struct DebugSocket {
    listener: UnixListener,
    _file: SocketFile,
}

impl DebugSocket {
    /// Makes the socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`DebugSocketError`] when the path exists, is too long, or cannot be made.
    pub fn bind(path: &Path) -> Result<Self, DebugSocketError> {
        let fail = |problem: String| DebugSocketError { path: path.to_owned(), problem };
        let bound = listener(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => fail("it exists already".to_owned()),
            _ => fail(error.to_string()),
        });
        let (listener, file) = bound?;
        let listener = UnixListener::from_std(listener).map_err(|error| fail(error.to_string()))?;
        Ok(Self { listener, _file: file })
    }

    /// The connections of this user, at most [`MAX_DEBUG_CONNECTIONS`] at once.
    pub fn into_incoming(self) -> impl Stream<Item = io::Result<DebugConnection>> {
        let room = Arc::new(Semaphore::new(MAX_DEBUG_CONNECTIONS));
        stream::unfold((self, room), |(socket, room)| async move {
            let connection = socket.accept(&room).await;
            Some((Ok(connection), (socket, room)))
        })
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> DebugConnection {
        loop {
            let connection = match self.listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the debug socket");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            if !is_ours(&connection) {
                tracing::warn!("a connection of another user to the debug socket was refused");
                continue;
            }
            match room.clone().try_acquire_owned() {
                Ok(permit) => return Watched::new(connection, permit).0,
                Err(_) => tracing::warn!(
                    limit = MAX_DEBUG_CONNECTIONS,
                    "a connection to the debug socket was refused: too many"
                ),
            }
        }
    }
}

/// Whether the peer is this process's user. Root is another user, unless this is root.
fn is_ours(connection: &UnixStream) -> bool {
    connection.peer_cred().is_ok_and(|peer| peer.uid() == Uid::effective().as_raw())
}

/// A socket takes its file's mode from its own inode when it is bound (unix(7) leaves this to the
/// umask; the umask only takes bits away), so the mode is right from the first moment.
fn listener(path: &Path) -> io::Result<(StdListener, SocketFile)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let file = SocketFile::remember(path)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok((StdListener::from(socket), file))
}

/// Removes the file, if it is still the one that we made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn remember(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        // The process may change its working directory, the file stays where it is.
        let path = std::path::absolute(path)?;
        Ok(Self { path, identity: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else { return };
        if (metadata.dev(), metadata.ino()) == self.identity
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the debug socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use futures::StreamExt;
    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn socket_is_private_and_goes_with_its_owner() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("debug");
        let socket = DebugSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn existing_path_is_refused_and_stays() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "mine").unwrap();
        let error = DebugSocket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("exists"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn file_that_somebody_put_in_its_place_is_not_removed() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("debug");
        let socket = DebugSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_leave_room_when_they_end() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("debug");
        let mut incoming = Box::pin(DebugSocket::bind(&path).unwrap().into_incoming());
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for _ in 0..MAX_DEBUG_CONNECTIONS {
            clients.push(UnixStream::connect(&path).await.unwrap());
            served.push(incoming.next().await.unwrap().unwrap());
        }
        let refused = UnixStream::connect(&path).await.unwrap();
        let more = tokio::spawn(async move { incoming.next().await.unwrap().unwrap() });
        refused.readable().await.unwrap();
        assert_eq!(refused.try_read(&mut [0; 1]).unwrap(), 0);
        served.pop();
        let _client = UnixStream::connect(&path).await.unwrap();
        more.await.unwrap();
    }
}
