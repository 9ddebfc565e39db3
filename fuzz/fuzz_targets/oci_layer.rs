//! Any bytes as the archives of two layers, one over the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oci_image::fuzz_layers(bytes));
