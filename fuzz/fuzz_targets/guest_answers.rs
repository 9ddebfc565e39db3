//! What a guest answers on the control port, against the checks of the helper.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sandbox_host::guest::fuzz::answers(input));
