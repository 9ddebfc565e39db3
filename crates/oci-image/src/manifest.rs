//! Indexes and manifests: read out of bytes whose digest was checked, and checked in turn.
//!
//! What a document is follows from its fields; the media types in it and of the answer must say
//! the same (CVE-2021-41190: one that can be read as both is refused).

use oci_client::manifest as media;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageIndex, OciImageManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::shown::shown;

/// Docker's name for a zstd layer, and OCI's, which `oci-client` does not have.
const LAYER_ZSTD: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
const FOREIGN: [&str; 4] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
/// Asked for, in this order.
pub(crate) const ACCEPTED: [&str; 4] = [
    media::OCI_IMAGE_INDEX_MEDIA_TYPE,
    media::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    media::OCI_IMAGE_MEDIA_TYPE,
    media::IMAGE_MANIFEST_MEDIA_TYPE,
];
/// Platforms that an error lists.
const LISTED: usize = 16;

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// Of the blob as the registry has it.
    pub digest: Digest,
    /// Of the blob.
    pub size: u64,
    /// How the archive in it is packed.
    pub compression: Compression,
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Digest and size of the configuration.
    pub config: (Digest, u64),
    /// From the lowest to the topmost.
    pub layers: Vec<LayerDescriptor>,
}

/// What a reference's digest may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// Images for several platforms: digest and size of that for linux/amd64.
    Index(Digest, u64),
    /// An image.
    Image(ImageManifest),
}

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u64,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Manifest {
    /// Read an index or a manifest. `content_type` is that of the answer, where there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Document`], [`Error::Schema1`], [`Error::Platform`], [`Error::Foreign`],
    /// [`Error::TooLarge`].
    pub fn parse(bytes: &[u8], content_type: Option<&str>, limits: &Limits) -> Result<Self> {
        let bad = |reason: String| Error::document("The manifest", reason);
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if shape.schema_version == 1 || shape.fs_layers.is_some() {
            return Err(Error::Schema1);
        }
        if shape.schema_version != 2 {
            return Err(bad(format!("its schema is {} and must be 2", shape.schema_version)));
        }
        let is_index = shape.manifests.is_some();
        if is_index == (shape.config.is_some() || shape.layers.is_some()) {
            return Err(bad("it must be either an index or an image's".to_owned()));
        }
        let expected = if is_index { &ACCEPTED[..2] } else { &ACCEPTED[2..] };
        for given in [shape.media_type.as_deref(), content_type].into_iter().flatten() {
            if !expected.contains(&given) {
                let what = if is_index { "an index" } else { "an image's" };
                return Err(bad(format!(
                    "it is {what}, and its media type is '{}'",
                    shown(given.as_bytes())
                )));
            }
        }
        if is_index {
            let index: OciImageIndex =
                serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
            return choose(&index.manifests);
        }
        let manifest: OciImageManifest =
            serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        Ok(Self::Image(check_image(&manifest, limits)?))
    }
}

/// The first image for linux/amd64, as the specification has it.
fn choose(manifests: &[ImageIndexEntry]) -> Result<Manifest> {
    let platforms = manifests.iter().map(|entry| {
        let platform = entry.platform.as_ref()?;
        Some((platform.os.to_string(), platform.architecture.to_string(), &platform.variant))
    });
    let mut available = Vec::new();
    for (entry, platform) in manifests.iter().zip(platforms) {
        let Some((os, architecture, variant)) = platform else { continue };
        // x86-64-v2 and above would be other images that this machine may not be able to run.
        let fits = variant.as_deref().is_none_or(|variant| matches!(variant, "" | "v1"));
        if os == "linux" && architecture == "amd64" && fits {
            if !ACCEPTED[2..].contains(&entry.media_type.as_str()) {
                let given = shown(entry.media_type.as_bytes());
                let reason = format!("its entry for linux/amd64 has the media type '{given}'");
                return Err(Error::document("The index", reason));
            }
            return Ok(Manifest::Index(Digest::parse(&entry.digest)?, size_of(entry.size)?));
        }
        let variant = variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        available.push(shown(format!("{os}/{architecture}{variant}").as_bytes()));
    }
    let more = available.len().saturating_sub(LISTED);
    available.truncate(LISTED);
    let mut available = available.join(", ");
    match (available.is_empty(), more) {
        (true, _) => available.push_str("nothing"),
        (false, 0) => {}
        (false, more) => available.push_str(&format!(" and {more} more")),
    }
    Err(Error::Platform { available })
}

fn check_image(manifest: &OciImageManifest, limits: &Limits) -> Result<ImageManifest> {
    let config = &manifest.config;
    if ![media::IMAGE_CONFIG_MEDIA_TYPE, media::IMAGE_DOCKER_CONFIG_MEDIA_TYPE]
        .contains(&config.media_type.as_str())
    {
        let given = shown(config.media_type.as_bytes());
        let reason =
            format!("it is not an image's: its configuration has the media type '{given}'");
        return Err(Error::document("The manifest", reason));
    }
    let config = (Digest::parse(&config.digest)?, size_of(config.size)?);
    too_large("The configuration", config.1, limits.config_bytes)?;
    if manifest.layers.len() > limits.layers {
        let limit = limits.layers as u64;
        return Err(Error::TooLarge { what: "The number of layers".to_owned(), limit });
    }
    let layers =
        manifest.layers.iter().map(|layer| check_layer(layer, limits)).collect::<Result<_>>()?;
    Ok(ImageManifest { config, layers })
}

fn check_layer(layer: &OciDescriptor, limits: &Limits) -> Result<LayerDescriptor> {
    let digest = Digest::parse(&layer.digest)?;
    let compression = match layer.media_type.as_str() {
        media::IMAGE_LAYER_MEDIA_TYPE | media::IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE => {
            Compression::None
        }
        media::IMAGE_LAYER_GZIP_MEDIA_TYPE | media::IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE => {
            Compression::Gzip
        }
        zstd if LAYER_ZSTD.contains(&zstd) => Compression::Zstd,
        foreign if FOREIGN.contains(&foreign) => {
            return Err(Error::Foreign { layer: digest, media_type: foreign.to_owned() });
        }
        other => {
            let reason = format!("a layer has the media type '{}'", shown(other.as_bytes()));
            return Err(Error::document("The manifest", reason));
        }
    };
    // Elsewhere is another way to say foreign.
    if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Err(Error::Foreign { layer: digest, media_type: "it has urls".to_owned() });
    }
    let size = size_of(layer.size)?;
    too_large(&format!("The layer {digest}"), size, limits.layer_bytes)?;
    Ok(LayerDescriptor { digest, size, compression })
}

fn size_of(size: i64) -> Result<u64> {
    u64::try_from(size).map_err(|_| Error::document("The manifest", "a size is negative"))
}

fn too_large(what: &str, size: u64, limit: u64) -> Result<()> {
    if size > limit {
        return Err(Error::TooLarge { what: what.to_owned(), limit });
    }
    Ok(())
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
