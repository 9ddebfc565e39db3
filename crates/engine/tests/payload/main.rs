//! Our devices and engines against a guest that does what it is told, however senseless: one suite
//! for every engine.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod block_driver;
mod blocks;
mod boot;
mod chance;
mod confined;
mod files;
mod frames;
mod fuse_driver;
#[path = "../common/held.rs"]
#[allow(dead_code, reason = "each of those that share it uses a part of it")]
mod held;
mod hostile;
mod lifecycle;
#[path = "../common/machine.rs"]
mod machine;
mod support;
mod sys;

/// Makes a test of each function, for each engine, where it can run.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        mod qemu {
            $(#[test]
            fn $name() {
                crate::support::on(engine::probe::EngineKind::Qemu, stringify!($name), super::$name);
            })+
        }
        mod krun {
            $(#[test]
            fn $name() {
                crate::support::on(engine::probe::EngineKind::Krun, stringify!($name), super::$name);
            })+
        }
    };
}
pub(crate) use on_every_engine;
