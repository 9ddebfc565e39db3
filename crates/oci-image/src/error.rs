//! What can go wrong between a reference and a tree of files.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::tree::EntryProblem;

/// Every error names what it is about. Texts that a registry or an image chose are escaped and
/// cut short in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no reference.
    #[error("'{reference}' is not a reference to an image: {reason}")]
    Reference {
        /// As it was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The reference has no digest, so it names another image tomorrow.
    #[error(
        "'{reference}' has no digest: a tag may name another image at any time, so what is built would \
         not be known. Write NAME:TAG@sha256:…{}",
        now.map(|now| format!("; today the tag is {now}")).unwrap_or_default()
    )]
    Unpinned {
        /// As it was given.
        reference: String,
        /// The digest that the tag has now, when the registry told.
        now: Option<Digest>,
    },
    /// Something that should be a digest is none.
    #[error(
        "'{digest}' is not a digest; it must be sha256: and 64 hexadecimal digits in lower case"
    )]
    DigestForm {
        /// As it was given.
        digest: String,
    },
    /// Docker's configuration cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials are kept by a program.
    #[error(
        "The credentials for {registry} are kept by the credential helper '{helper}', which is not supported; \
         put them into \"auths\" of {}, or remove the entry to pull anonymously", path.display()
    )]
    CredentialHelper {
        /// The registry.
        registry: String,
        /// The helper's name.
        helper: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// HTTP could not be spoken at all.
    #[error("HTTPS cannot be set up: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The request failed: no connection, no TLS, no answer.
    #[error("The request for {url} failed")]
    Request {
        /// Without its query.
        url: String,
        /// The cause; its own URL is left out.
        source: reqwest::Error,
    },
    /// The registry answered with an error.
    #[error("{url} answered with the status {status}")]
    Status {
        /// Without its query.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The registry wants other credentials, or some.
    #[error("{registry} refuses access: {reason}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
    /// An answer, or a thing in one, is larger than it may be.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: String,
        /// In bytes, or pieces.
        limit: u64,
    },
    /// It took too long.
    #[error("{what} did not arrive in {seconds} s")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} has the digest {found} and should have {expected}")]
    Digest {
        /// What was hashed.
        what: String,
        /// What the reference, manifest or configuration says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// There are more or fewer bytes than declared.
    #[error("{what} has {found} bytes and should have {expected}")]
    Size {
        /// What was counted.
        what: String,
        /// What the manifest says.
        expected: u64,
        /// What came; for a body that does not end, what had come when it was given up.
        found: u64,
    },
    /// A document is not what it should be.
    #[error("{what} cannot be used: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Docker's first manifest format, which has no digests of layers worth the name.
    #[error(
        "The image has a manifest of schema 1, which is not supported; push it again with a current tool"
    )]
    Schema1,
    /// A layer that is to be got from elsewhere.
    #[error(
        "The layer {layer} is not distributed with the image ({media_type}), so it is not taken"
    )]
    Foreign {
        /// Its digest.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// No image for this kind of machine.
    #[error("There is no image for linux/amd64; there is: {available}")]
    Platform {
        /// What there is.
        available: String,
    },
    /// A layer's archive is damaged or hostile.
    #[error("The layer {layer} cannot be used: '{name}': {problem}")]
    Entry {
        /// Digest of the compressed layer.
        layer: Digest,
        /// The member's name, escaped and cut.
        name: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// A layer cannot be decompressed.
    #[error("The layer {layer} cannot be decompressed")]
    Decompress {
        /// Digest of the compressed layer.
        layer: Digest,
        /// What the decoder says.
        source: io::Error,
    },
    /// A file of this machine.
    #[error("Cannot {action} {}", path.display())]
    File {
        /// A verb phrase such as "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn document(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Document { what: what.into(), reason: reason.into() }
    }
}

/// Shorthand for this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
