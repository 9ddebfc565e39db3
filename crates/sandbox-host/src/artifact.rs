//! Files that Lanebox made: opened once, checked on the opened descriptor, used from it.
//!
//! Symbolic links are followed (a checkout's artifact folder is made of them); what is found must be
//! a regular file. The digest is that of the descriptor that is handed on, so a file that somebody
//! puts in its place afterwards changes nothing.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

const PREFIX: &str = "sha256:";
const READ_BYTES: usize = 256 * 1024;

/// A SHA-256 digest; displayed as `sha256:` and hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix(PREFIX).ok_or(())?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or(());
            let value = nibble(pair[0])? * 16 + nibble(pair[1])?;
            *byte = u8::try_from(value).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with an artifact.
#[derive(Debug, thiserror::Error)]
#[error("The {what} {}: {problem}", .path.display())]
pub struct ArtifactError {
    /// Which artifact, such as "kernel".
    pub what: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The kinds of things that can be wrong with an artifact.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such file.
    #[error("there is no such file")]
    Missing,
    /// It cannot be opened.
    #[error("it cannot be opened ({0})")]
    Open(io::Error),
    /// A folder, a device, a pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// It cannot be read.
    #[error("it cannot be read ({0})")]
    Read(io::Error),
    /// It has another size.
    #[error("it has {found} bytes where {expected} were expected")]
    Size {
        /// What the request says.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// It has another digest.
    #[error("its digest is {found} where {expected} was expected")]
    Digest {
        /// What the request says.
        expected: Digest,
        /// What the file has.
        found: Digest,
    },
    /// It is not the image that it claims to be.
    #[error("{0}")]
    Image(String),
    /// Checking was given up because the boot was.
    #[error("checking it was given up")]
    GivenUp,
}

impl Problem {
    /// The system's error, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Missing => Some(Errno::ENOENT),
            Self::Open(error) | Self::Read(error) => error.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// An opened artifact.
#[derive(Debug)]
pub struct Artifact {
    what: &'static str,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Artifact {
    /// Opens a regular file for reading. Blocks.
    ///
    /// # Errors
    /// [`ArtifactError`] when it is missing, is not a regular file or cannot be opened.
    pub fn open(what: &'static str, path: &Path) -> Result<Self, ArtifactError> {
        let fail = |problem| ArtifactError { what, path: path.to_owned(), problem };
        // Without O_NONBLOCK, opening a pipe would wait for its writer.
        let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => fail(Problem::Missing),
            _ => fail(Problem::Open(error)),
        })?;
        let metadata = file.metadata().map_err(|error| fail(Problem::Open(error)))?;
        if !metadata.is_file() {
            return Err(fail(Problem::NotAFile));
        }
        Ok(Self { what, path: path.to_owned(), file, size: metadata.len() })
    }

    /// Refuses a file of another size.
    ///
    /// # Errors
    /// [`Problem::Size`].
    pub fn expect_size(self, expected: u64) -> Result<Self, ArtifactError> {
        if self.size == expected {
            return Ok(self);
        }
        let found = self.size;
        Err(self.error(Problem::Size { expected, found }))
    }

    /// Reads the whole file and compares its digest. Blocks; gives up when `cancel` fires.
    ///
    /// # Errors
    /// [`Problem::Digest`], [`Problem::Read`] or [`Problem::GivenUp`].
    pub fn verify(
        &self,
        expected: Digest,
        cancel: &CancellationToken,
    ) -> Result<(), ArtifactError> {
        let found = self.digest(cancel).map_err(|problem| self.error(problem))?;
        if found == expected {
            return Ok(());
        }
        Err(self.error(Problem::Digest { expected, found }))
    }

    /// A second descriptor of the same opened file.
    ///
    /// # Errors
    /// [`Problem::Open`] when there are no more descriptors.
    pub fn duplicate(&self) -> Result<File, ArtifactError> {
        self.file.try_clone().map_err(|error| self.error(Problem::Open(error)))
    }

    /// The file itself.
    pub fn into_file(self) -> File {
        self.file
    }

    /// An error about this artifact.
    pub fn error(&self, problem: Problem) -> ArtifactError {
        ArtifactError { what: self.what, path: self.path.clone(), problem }
    }

    fn digest(&self, cancel: &CancellationToken) -> Result<Digest, Problem> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(Problem::GivenUp);
            }
            // read_at leaves the position alone, which the engine's descriptor shares.
            match self.file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(Digest(hash.finalize().into())),
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Problem::Read(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
