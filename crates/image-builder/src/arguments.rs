//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser};

/// Build a root filesystem image from tar archives and a written tree, or from an image of an OCI
/// registry.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Short name, used for file names and as the filesystem's label
    #[arg(long, value_parser = parse_id, required_unless_present = "reference")]
    pub(crate) id: Option<String>,
    /// The name users give, such as debian:12
    #[arg(long, required_unless_present = "reference")]
    pub(crate) name: Option<String>,
    /// A tar archive to take in; later ones win over earlier ones
    #[arg(long = "tar", value_name = "FILE", conflicts_with = "reference")]
    pub(crate) archives: Vec<PathBuf>,
    /// A written tree to apply after the archives or layers, in order
    #[arg(long = "tree", value_name = "FILE")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Size of the disk the guest sees
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=1024 * 1024),
        required_unless_present = "reference")]
    pub(crate) size_mib: Option<u32>,
    /// Size of the journal
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=1024),
        required_unless_present = "reference")]
    pub(crate) journal_mib: Option<u32>,
    /// Seconds since 1970: no file in the image is newer
    #[arg(long, value_parser = clap::value_parser!(u32), required_unless_present = "reference")]
    pub(crate) epoch: Option<u32>,
    /// Existing folder that receives rootfs.qcow2 and image.json
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) oci: OciArguments,
}

/// About an image of a registry. Without --id, --name, --size-mib, --journal-mib and --epoch they
/// are found out: the first two from the reference, the others from the image.
#[derive(Debug, Args)]
pub(crate) struct OciArguments {
    /// The image, REGISTRY/NAME[:TAG]@sha256:…
    #[arg(id = "reference", long = "oci", value_name = "REFERENCE")]
    pub(crate) reference: Option<String>,
    /// Speak to this registry without TLS (loopback is always spoken to so)
    #[arg(long = "insecure-registry", value_name = "HOST:PORT", requires = "reference")]
    pub(crate) insecure: Vec<String>,
    /// The largest layer that is taken, uncompressed
    #[arg(long, value_name = "MIB", default_value_t = 8 * 1024, value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    pub(crate) max_layer_mib: u64,
    /// The most that all layers may hold, uncompressed
    #[arg(long, value_name = "MIB", default_value_t = 16 * 1024, value_parser = clap::value_parser!(u64).range(1..=4 * 1024 * 1024))]
    pub(crate) max_image_mib: u64,
}

/// An id becomes a file name, and ext4 labels hold 16 bytes.
fn parse_id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 16 || !text.bytes().all(plain) {
        return Err("an id has 1 to 16 characters out of a-z, 0-9 and '-'".to_owned());
    }
    Ok(text.to_owned())
}
