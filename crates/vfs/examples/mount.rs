//! `mount SOURCE TARGET [ro] [exclusive]`: serves a host directory, or with the source `:model:` a
//! tree in memory behind callbacks, through /dev/fuse until its input ends. For trying tools, test
//! suites and benchmarks without a virtual machine.

#[path = "../tests/common/mod.rs"]
#[allow(unused, reason = "shared with the tests")]
mod common;

use std::io::Read;

use vfs::Observer;
use vfs::callbacks::{CallbackFs, CallbackOptions, Features};
use vfs::host_dir::{Access, HostDir, HostDirOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, rest @ ..] = arguments.as_slice() else {
        return Err("usage: mount SOURCE TARGET [ro] [exclusive]".into());
    };
    let has = |word: &str| rest.iter().any(|given| given == word);
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    if source == ":model:" {
        let features = Features::ALL.without(Features::STATFS).without(Features::FSYNC);
        let model = common::model::Model::new(features);
        let options = CallbackOptions { read_only: has("ro"), ..CallbackOptions::default() };
        let _mounted =
            common::Mounted::new(CallbackFs::new(model, options, Observer::log()), target);
        wait()?;
        return Ok(());
    }
    let access = if has("ro") { Access::ReadOnly } else { Access::ReadWrite };
    let mut options = HostDirOptions::new(source, access);
    options.set_id = true;
    options.exclusive = has("exclusive");
    let _mounted = common::Mounted::new(HostDir::new(options, &Observer::log())?, target);
    wait()?;
    Ok(())
}
