//! `image.json`: what a client has to know to use an image. images/README.md documents it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::facts::Fact;

/// The version of the shape below.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor<'a> {
    schema: u32,
    name: &'a str,
    id: &'a str,
    architecture: &'static str,
    format: &'static str,
    /// Relative to the descriptor.
    path: &'static str,
    digest: String,
    size_bytes: u64,
    virtual_size_bytes: u64,
    facts: Vec<Fact>,
}

/// What the builder knows of the image beyond the file itself.
#[derive(Debug)]
pub(crate) struct About<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) virtual_size: u64,
    pub(crate) facts: Vec<Fact>,
}

/// The name of the image file beside the descriptor.
pub(crate) const IMAGE_FILE: &str = "rootfs.qcow2";

/// Write `image.json` for the finished image file in `folder`.
pub(crate) fn write(folder: &Path, about: About<'_>) -> Result<()> {
    let (digest, size_bytes) = digest_of(&folder.join(IMAGE_FILE))?;
    let descriptor = Descriptor {
        schema: SCHEMA,
        name: about.name,
        id: about.id,
        architecture: "x86_64",
        format: "qcow2",
        path: IMAGE_FILE,
        digest,
        size_bytes,
        virtual_size_bytes: about.virtual_size,
        facts: about.facts,
    };
    let path = folder.join("image.json");
    let mut text =
        serde_json::to_vec_pretty(&descriptor).map_err(|error| Error::Image(error.to_string()))?;
    text.push(b'\n');
    let mut file = File::create(&path).map_err(Error::file("create", &path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::file("write", &path))
}

fn digest_of(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(Error::file("read", path))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
    let digest: [u8; 32] = hash.finalize().into();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((format!("sha256:{hex}"), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_describes_the_file_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(IMAGE_FILE), "abc").unwrap();
        let about = About { id: "a", name: "a:1", virtual_size: 4096, facts: Vec::new() };
        write(folder.path(), about).unwrap();
        let text = std::fs::read(folder.path().join("image.json")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        // The SHA-256 of "abc" is FIPS 180-2's first example.
        assert_eq!(
            value["digest"],
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(value["sizeBytes"], 3);
        assert_eq!(value["virtualSizeBytes"], 4096);
        assert_eq!(value["schema"], 1);
    }
}
