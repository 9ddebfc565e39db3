//! Any bytes as a query of the guest and as an answer of a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netstack::dns::fuzz(bytes));
