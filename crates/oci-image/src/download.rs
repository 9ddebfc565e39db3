//! From a reference to files on this machine: documents that were checked, and blobs whose digests
//! were.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use sha2::{Digest as _, Sha256};

use crate::blob_cache::BlobCache;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fetch;
use crate::limits::Limits;
use crate::manifest::{ImageManifest, LayerDescriptor, Manifest};
use crate::progress::{Progress, Step};
use crate::reference::Reference;
use crate::registry::Registry;

/// Layers that are downloaded at the same time.
const AT_ONCE: usize = 3;

/// An image's parts.
#[derive(Debug)]
pub struct Download {
    /// Digest of the image's manifest; that of the reference, unless it names an index.
    pub manifest: Digest,
    /// The image's configuration.
    pub config: ImageConfig,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
}

/// A layer as the registry has it.
#[derive(Debug)]
pub struct Layer {
    /// What the manifest says of it.
    pub descriptor: LayerDescriptor,
    /// Digest of the archive in it.
    pub diff_id: Digest,
    /// At its first byte.
    pub blob: File,
}

/// Download what the reference names, as far as the cache does not have it.
///
/// # Errors
///
/// [`Error::Unpinned`] for a reference without a digest, with the digest that its tag has now where
/// the registry tells; else whatever is refused.
pub async fn download(
    reference: &Reference,
    registry: &Registry,
    cache: &BlobCache,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Download> {
    let Some(given) = reference.digest() else {
        let tag = reference.tag().unwrap_or("latest");
        let now = registry.digest_now(tag, limits.manifest_bytes).await.ok();
        return Err(Error::Unpinned { reference: reference.to_string(), now });
    };
    let source = Source { registry, cache, limits };
    let (manifest, image) = match source.manifest(&given, None).await? {
        Manifest::Image(image) => (given, image),
        Manifest::Index(digest, size) => match source.manifest(&digest, Some(size)).await? {
            Manifest::Image(image) => (digest, image),
            Manifest::Index(..) => {
                return Err(Error::document("The index", "it leads to another index"));
            }
        },
    };
    let ImageManifest { config: (digest, size), layers } = image;
    let config = source.config(&digest, size, layers.len()).await?;
    let count = layers.len();
    let works = layers.into_iter().zip(config.diff_ids.clone()).enumerate();
    let layers = futures::stream::iter(works)
        .map(|(number, (descriptor, diff_id))| {
            let what = format!("layer {} of {count}", number + 1);
            let source = &source;
            async move {
                let blob =
                    source.blob(&descriptor.digest, descriptor.size, &what, progress).await?;
                Ok::<_, Error>(Layer { descriptor, diff_id, blob })
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(Download { manifest, config, layers })
}

struct Source<'a> {
    registry: &'a Registry,
    cache: &'a BlobCache,
    limits: &'a Limits,
}

impl Source<'_> {
    async fn manifest(&self, digest: &Digest, size: Option<u64>) -> Result<Manifest> {
        let limit = self.limits.manifest_bytes;
        if let Some(file) = self.cache.find(digest, size)? {
            let bytes = read_small(file, "The manifest", limit)?;
            return Manifest::parse(&bytes, None, self.limits);
        }
        let (bytes, media_type) = self.registry.manifest(digest, limit).await?;
        if let Some(expected) = size {
            same_size(&format!("The manifest {digest}"), expected, bytes.len() as u64)?;
        }
        let manifest = Manifest::parse(&bytes, media_type.as_deref(), self.limits)?;
        let mut file = self.cache.scratch()?;
        file.write_all(&bytes).map_err(Error::file("write to", self.cache.folder()))?;
        self.cache.keep(digest, file)?;
        Ok(manifest)
    }

    async fn config(&self, digest: &Digest, size: u64, layers: usize) -> Result<ImageConfig> {
        let file = self.blob(digest, size, "configuration", &crate::progress::Silent).await?;
        let bytes = read_small(file, "The configuration", self.limits.config_bytes)?;
        ImageConfig::parse(&bytes, layers)
    }

    async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        what: &str,
        progress: &dyn Progress,
    ) -> Result<File> {
        if let Some(file) = self.cache.find(digest, Some(size))? {
            return Ok(file);
        }
        let mut step = progress.begin(what, size);
        let mut partial = Partial {
            what: format!("The blob {digest}"),
            size,
            folder: self.cache.folder(),
            file: self.cache.scratch()?,
            hash: Sha256::new(),
            count: 0,
        };
        let patience = &self.registry.patience;
        let limit = patience.exchange + Duration::from_secs(size / patience.slowest.max(1));
        let path = format!("blobs/{digest}");
        let whole = format!("The blob {digest}");
        fetch::within(&whole, limit, async {
            let mut pause = patience.pause;
            for _ in 1..patience.attempts {
                match partial.attempt(self.registry, &path, &mut *step).await {
                    Err(error) if fetch::may_pass(&error) || partial.is_short(&error) => {
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    outcome => return outcome,
                }
            }
            partial.attempt(self.registry, &path, &mut *step).await
        })
        .await?;
        fetch::same_digest(&partial.what, digest, &Digest::finish(partial.hash))?;
        self.cache.keep(digest, partial.file)
    }
}

/// What has come of a blob so far.
struct Partial<'a> {
    what: String,
    size: u64,
    folder: &'a Path,
    file: File,
    hash: Sha256,
    count: u64,
}

impl Partial<'_> {
    /// Get the rest, or all of it from a registry that does not begin in the middle.
    async fn attempt(
        &mut self,
        registry: &Registry,
        path: &str,
        step: &mut dyn Step,
    ) -> Result<()> {
        let from = (self.count > 0).then_some(self.count);
        let mut response = registry.get(path, None, from).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT || !self.goes_on(&response) {
            self.restart()?;
            if response.status() != StatusCode::OK {
                let reason = format!("it came with the status {}", response.status().as_u16());
                return Err(Error::document(self.what.clone(), reason));
            }
        }
        if let Some(length) = response.content_length() {
            let all = self.count.saturating_add(length);
            if all > self.size {
                return self.wrong_size(all);
            }
        }
        let url = response.url().clone();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| fetch::failed(&url, error))?
        {
            let all = self.count + chunk.len() as u64;
            if all > self.size {
                return self.wrong_size(all);
            }
            self.file.write_all(&chunk).map_err(Error::file("write to", self.folder))?;
            self.hash.update(&chunk);
            self.count = all;
            step.at(all);
        }
        if self.count == self.size { Ok(()) } else { self.wrong_size(self.count) }
    }

    /// Whether a partial answer begins where the last one ended.
    fn goes_on(&self, response: &reqwest::Response) -> bool {
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
        self.count > 0 && begins.and_then(|(first, _)| first.parse().ok()) == Some(self.count)
    }

    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(Error::file("write to", self.folder))?;
        self.hash = Sha256::new();
        self.count = 0;
        Ok(())
    }

    fn wrong_size(&self, found: u64) -> Result<()> {
        same_size(&self.what, self.size, found)
    }

    /// A body that ended early may have been cut off on the way.
    fn is_short(&self, error: &Error) -> bool {
        matches!(error, Error::Size { found, expected, .. } if found < expected)
    }
}

fn same_size(what: &str, expected: u64, found: u64) -> Result<()> {
    if expected != found {
        return Err(Error::Size { what: what.to_owned(), expected, found });
    }
    Ok(())
}

fn read_small(file: File, what: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::document(what, error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { what: what.to_owned(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "download/tests.rs"]
mod tests;
