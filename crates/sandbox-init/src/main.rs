//! PID 1 of the guest; everything is in the library, where tests and fuzz targets reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_init::run()
}
