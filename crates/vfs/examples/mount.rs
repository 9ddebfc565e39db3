//! `mount SOURCE TARGET [ro]`: serves a host directory through /dev/fuse until its input ends.
//! For trying tools, test suites and benchmarks on it without a virtual machine.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Read;

use vfs::Observer;
use vfs::host_dir::{Access, HostDir, HostDirOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, rest @ ..] = arguments.as_slice() else {
        return Err("usage: mount SOURCE TARGET [ro] [exclusive]".into());
    };
    let has = |word: &str| rest.iter().any(|given| given == word);
    let access = if has("ro") { Access::ReadOnly } else { Access::ReadWrite };
    let mut options = HostDirOptions::new(source, access);
    options.set_id = true;
    options.exclusive = has("exclusive");
    let fs = HostDir::new(options, &Observer::log())?;
    let _mounted = common::Mounted::new(fs, target);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
