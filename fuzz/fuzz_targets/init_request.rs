//! What a host asks of sandbox-init, against the checks before anything is done.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sandbox_init::fuzz::request(input));
