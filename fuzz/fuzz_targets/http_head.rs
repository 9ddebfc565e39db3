//! Any bytes as HTTP/1 requests of the guest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netstack::http::fuzz(bytes));
