//! Any bytes as the beginning of a TLS connection. A hello that is there does not change when more
//! bytes follow it.
#![no_main]

use netstack::tls::{Peeked, peek};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (first, _) = bytes.split_at(bytes.len() / 2);
    match peek(first) {
        Peeked::Incomplete => (),
        settled => assert_eq!(settled, peek(bytes)),
    }
});
