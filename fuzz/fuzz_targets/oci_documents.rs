//! Any bytes as a manifest, a configuration, a challenge, a token and a reference.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oci_image::fuzz_documents(bytes));
