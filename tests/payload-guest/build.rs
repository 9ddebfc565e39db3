//! Makes the guest's kernel out of the same modules that the library holds, so that `cargo` alone
//! builds it, and lints see it.
//!
//! There is no bare-metal target in the toolchain that the project pins, so it is the host's with
//! the C library, unwinding and SSE taken away. The latter because some hosts emulate the guest's
//! kernel mode, and then only its simpler instructions; rustc warns of that, as it should of
//! programs that pass floating-point numbers.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_ARCH", "x86_64") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return Ok(()); // The library is empty there.
    }
    let output = PathBuf::from(env::var("OUT_DIR")?).join("payload-guest");
    let script = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("src/kernel.ld");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "payload_guest"]);
    rustc.arg("src/kernel.rs").arg("-o").arg(&output).args(["--target", &env::var("TARGET")?]);
    for option in [
        "panic=abort",
        "opt-level=2",
        "lto=fat",
        "codegen-units=1",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=-sse,-sse2",
        "linker=rust-lld",
        "linker-flavor=ld.lld",
    ] {
        rustc.args(["-C", option]);
    }
    rustc.arg("-C").arg(format!("link-args=-static -no-pie -T {}", script.display()));
    let built = rustc.output()?;
    if !built.status.success() {
        let words = String::from_utf8_lossy(&built.stderr);
        return Err(format!("The guest does not build:\n{words}").into());
    }
    Ok(())
}
