//! Generates the messages and services from `proto/` with protox: no protoc on the machine.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FILES: [&str; 12] = [
    "lanebox/v1/block_store.proto",
    "lanebox/v1/error.proto",
    "lanebox/v1/file.proto",
    "lanebox/v1/filesystem.proto",
    "lanebox/v1/image.proto",
    "lanebox/v1/mount.proto",
    "lanebox/v1/network.proto",
    "lanebox/v1/process.proto",
    "lanebox/v1/sandbox.proto",
    "lanebox/guest/v1/file.proto",
    "lanebox/guest/v1/guest.proto",
    "lanebox/guest/v1/process.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), {
        use prost::Message;
        descriptors.encode_to_vec()
    })?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
