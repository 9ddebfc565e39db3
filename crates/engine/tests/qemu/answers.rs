//! A filesystem of made-up files, one of which does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use vfs::callbacks::{
    CallbackFs, CallbackOptions, Callbacks, DirectoryEntry, Features, FilePath, FileStat,
};
use vfs::{Errno, Kind, Observer};

/// `/file-N` for every N, and `/hang`, whose reads wait until they are released.
#[derive(Clone)]
pub(crate) struct Answers {
    released: watch::Receiver<bool>,
    hanging: Arc<AtomicUsize>,
}

/// Counts one read that waits, for as long as it does.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Answers {
    /// Bytes of every file.
    pub(crate) const LENGTH: usize = 100_000;

    pub(crate) fn new(released: watch::Receiver<bool>) -> Self {
        Self { released, hanging: Arc::default() }
    }

    pub(crate) fn file_system(&self) -> CallbackFs<Self> {
        let deadline = Duration::from_secs(600);
        let options = CallbackOptions { deadline, ..CallbackOptions::default() };
        CallbackFs::new(self.clone(), options, Observer::log())
    }

    /// How many reads wait.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// What `sha256sum` says of the first files, one after the other.
    pub(crate) fn digest(count: usize) -> String {
        let all: Vec<u8> = (0..count).flat_map(content).collect();
        hexadecimal(&all)
    }

    /// What `sha256sum` says of one file.
    pub(crate) fn digest_of(number: usize) -> String {
        hexadecimal(&content(number))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content(number: usize) -> Vec<u8> {
    format!("{number} ").into_bytes().into_iter().cycle().take(Answers::LENGTH).collect()
}

fn number(path: &FilePath) -> Option<usize> {
    std::str::from_utf8(path.as_bytes().strip_prefix(b"/file-")?).ok()?.parse().ok()
}

impl Callbacks for Answers {
    fn features(&self) -> Features {
        Features::NONE
    }

    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        match path.as_bytes() {
            b"/" => Ok(FileStat::of(Kind::Directory)),
            other if other == b"/hang" || number(path).is_some() => {
                Ok(FileStat { size: Some(Self::LENGTH as u64), ..FileStat::of(Kind::File) })
            }
            _ => Err(Errno::ENOENT),
        }
    }

    async fn list(&self, _: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        Ok(Vec::new())
    }

    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        if path.as_bytes() == b"/hang" {
            let _waiting = Waiting::new(&self.hanging);
            let mut released = self.released.clone();
            let _ = released.wait_for(|released| *released).await;
        }
        let content = content(number(path).unwrap_or(0));
        let start = usize::try_from(offset).unwrap().min(content.len());
        let end = (start + length).min(content.len());
        Ok(Bytes::copy_from_slice(&content[start..end]))
    }
}
