#![allow(unsafe_code, reason = "the tests hand out memory as a virtqueue does")]
use std::cell::UnsafeCell;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::*;

/// Memory in pieces, as a guest's.
struct Owner(Vec<Box<[UnsafeCell<u8>]>>);
// SAFETY: the tests use the memory from one thread.
unsafe impl Send for Owner {}
// SAFETY: the tests use the memory from one thread.
unsafe impl Sync for Owner {}

fn writable(sizes: &[usize]) -> (Writable, Readable) {
    let piece = |size: &usize| (0..*size).map(|_| UnsafeCell::new(0)).collect();
    let owner = Arc::new(Owner(sizes.iter().map(piece).collect()));
    let segments: Vec<Segment> = owner
        .0
        .iter()
        .map(|part| Segment { address: UnsafeCell::raw_get(part.as_ptr()), length: part.len() })
        .collect();
    // SAFETY: the owner keeps the memory, and nothing else refers to it.
    let readable = unsafe { Readable::from_raw(segments.clone(), owner.clone()) };
    // SAFETY: the owner keeps the memory, and nothing else refers to it.
    (unsafe { Writable::from_raw(segments, owner) }, readable)
}

#[test]
fn bytes_cross_the_borders_of_scattered_pieces_in_order() {
    let (mut reply, mut same) = writable(&[3, 0, 1, 7, 2]);
    assert_eq!(reply.capacity(), 13);
    assert_eq!(reply.put(0, b"ab"), 2);
    let mut body = reply.body(2, 100);
    assert_eq!(body.room(), 11);
    assert_eq!(body.push(b"cdefg"), 5);
    assert_eq!(body.push(b"hijklmnop"), 6);
    assert_eq!(body.push(b"!"), 0);
    assert_eq!(reply.to_vec(13), b"abcdefghijklm");
    assert_eq!(same.take::<4>().unwrap(), *b"abcd");
    assert_eq!(same.take_vec(5), b"efghi");
    assert_eq!(same.take::<5>(), None);
    assert_eq!(same.remaining(), 4);
    assert_eq!(same.take_vec(100), b"jklm");
}

#[test]
fn files_are_read_into_and_written_from_scattered_pieces() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    let (mut reply, mut same) = writable(&[2, 3, 4, 100]);
    let mut body = reply.body(1, 8);
    assert_eq!(body.read_from(file.as_fd(), 1, ReadMode::Plain), Ok(8));
    assert_eq!(body.room(), 0);
    assert_eq!(reply.to_vec(9), b"\x0012345678");
    let _ = same.take::<1>();
    let mut other = tempfile::tempfile().unwrap();
    assert_eq!(same.write_to(other.as_fd(), 5, false), Ok(108));
    other.rewind().unwrap();
    let mut seen = Vec::new();
    other.read_to_end(&mut seen).unwrap();
    assert_eq!(&seen[..14], b"\0\0\0\0\x0012345678\0");
    assert_eq!(seen.len(), 113);
}

#[test]
fn offsets_no_file_can_have_are_refused() {
    let file = tempfile::tempfile().unwrap();
    let mut reply = Writable::with_capacity(8);
    let mut body = reply.body(0, 8);
    assert_eq!(body.read_from(file.as_fd(), u64::MAX, ReadMode::Plain), Err(crate::Errno::EINVAL));
    let mut data = Readable::from(b"x".to_vec());
    assert_eq!(data.write_to(file.as_fd(), u64::MAX, false), Err(crate::Errno::EFBIG));
}
