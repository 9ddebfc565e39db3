//! The file store against crashes, full disks and damage.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod crash;
mod disk;
mod real;
