//! `registry/repository[:tag]@sha256:…`: which image is meant.

use std::fmt;

use oci_client::Reference as Parsed;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::shown::shown;

/// Characters of a reference; a name has 255 at most, a tag 128.
const MAX: usize = 600;

/// A reference whose registry is known. Names without a registry are Docker Hub's, as everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    parsed: Parsed,
    digest: Option<Digest>,
}

impl Reference {
    /// Read a reference; `oci://` may stand before it.
    ///
    /// # Errors
    ///
    /// [`Error::Reference`]; a digest other than SHA-256 is [`Error::DigestForm`].
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Reference {
            reference: shown(text.as_bytes()),
            reason: reason.to_owned(),
        };
        if text.len() > MAX {
            return Err(refuse("it is too long"));
        }
        let plain = text.strip_prefix("oci://").unwrap_or(text);
        let parsed = Parsed::try_from(plain).map_err(|error| refuse(&error.to_string()))?;
        let digest = parsed.digest().map(Digest::parse).transpose()?;
        Ok(Self { parsed, digest })
    }

    /// The host that is asked, with a port if one is given.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.parsed.resolve_registry()
    }

    /// Below the registry, such as `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.parsed.repository()
    }

    /// The tag; without a digest and a tag it is `latest`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.parsed.tag()
    }

    /// The digest of an index or a manifest.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// A name with a version for people and programs: the registry, the repository, and the tag, or
    /// the digest where there is no tag or one that says nothing. A port follows a dash.
    #[must_use]
    pub fn image_name(&self) -> String {
        let registry = self.parsed.registry().replace(':', "-");
        let version = match (self.tag(), self.digest) {
            (Some(tag), _) if tag != "latest" => tag.to_owned(),
            (_, Some(digest)) => format!("sha256-{}", digest.hex()),
            (_, None) => "latest".to_owned(),
        };
        format!("{}/{}:{version}", registry.to_lowercase(), self.repository())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parsed.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn parts_are_found() {
        let given = format!("oci://localhost:5000/team/tool:1.2@sha256:{HEX}");
        let reference = Reference::parse(&given).unwrap();
        assert_eq!(reference.registry(), "localhost:5000");
        assert_eq!(reference.repository(), "team/tool");
        assert_eq!(reference.tag(), Some("1.2"));
        assert_eq!(reference.digest(), Some(Digest::of(b"abc")));
        assert_eq!(reference.image_name(), "localhost-5000/team/tool:1.2");
        assert_eq!(format!("oci://{reference}"), given);
    }

    #[test]
    fn docker_hub_is_the_registry_of_names_without_one() {
        let reference = Reference::parse(&format!("alpine@sha256:{HEX}")).unwrap();
        assert_eq!(
            (reference.registry(), reference.repository()),
            ("index.docker.io", "library/alpine")
        );
        assert_eq!(reference.image_name(), format!("docker.io/library/alpine:sha256-{HEX}"));
    }

    #[test]
    fn a_tag_alone_pins_nothing() {
        assert_eq!(Reference::parse("alpine:3.23").unwrap().digest(), None);
        assert_eq!(Reference::parse("alpine").unwrap().tag(), Some("latest"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for wrong in [
            "",
            "oci://",
            "Alpine",
            "a//b",
            "../a",
            "a/../b",
            "a:b:c",
            "a@sha256:12",
            "http://x/a",
            "a b",
            "a\n",
            "user:password@host/a",
            "a?x=1",
            "host:99999999/a#b",
        ] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Reference::parse(&"a".repeat(601)).is_err());
        let upper = format!("a@sha256:{}", HEX.to_uppercase());
        assert!(matches!(Reference::parse(&upper), Err(Error::DigestForm { .. })));
    }
}
