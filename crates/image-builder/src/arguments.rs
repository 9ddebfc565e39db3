//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Build a root filesystem image from tar archives and a written tree.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Short name, used for file names and as the filesystem's label
    #[arg(long, value_parser = parse_id)]
    pub(crate) id: String,
    /// The name users give, such as debian:12
    #[arg(long)]
    pub(crate) name: String,
    /// A tar archive to take in; later ones win over earlier ones
    #[arg(long = "tar", value_name = "FILE")]
    pub(crate) archives: Vec<PathBuf>,
    /// A written tree to apply after the archives, in order
    #[arg(long = "tree", value_name = "FILE")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Size of the disk the guest sees
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=1024 * 1024))]
    pub(crate) size_mib: u32,
    /// Size of the journal
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub(crate) journal_mib: u32,
    /// Seconds since 1970: no file in the image is newer
    #[arg(long, value_parser = clap::value_parser!(u32))]
    pub(crate) epoch: u32,
    /// Existing folder that receives rootfs.qcow2 and image.json
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) output: PathBuf,
}

/// An id becomes a file name, and ext4 labels hold 16 bytes.
fn parse_id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 16 || !text.bytes().all(plain) {
        return Err("an id has 1 to 16 characters out of a-z, 0-9 and '-'".to_owned());
    }
    Ok(text.to_owned())
}
