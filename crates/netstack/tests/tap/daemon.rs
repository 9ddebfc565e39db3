//! A server that is a program of its own, on the host's loopback, for as long as a test needs it.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rand::seq::SliceRandom;

use crate::guest::PATIENCE;

/// Ports that the system gives to nobody who does not name them.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many ports of the loopback that nobody listens on.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let mut ports: Vec<u16> = PORTS.collect();
    ports.shuffle(&mut rand::rng());
    let mut free =
        ports.into_iter().filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    [(); COUNT].map(|()| free.next().expect("one of thousands is free"))
}

/// A running program. It ends with its owner.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts a program, and waits until it listens on these ports. What it says goes to a file in
    /// the folder.
    pub(crate) fn start(mut command: Command, folder: &Path, ports: &[u16]) -> Self {
        let log = folder.join("daemon.log");
        let file = File::create(&log).expect("a file");
        let also = file.try_clone().expect("a file");
        command.stdin(Stdio::null()).stdout(file).stderr(also);
        let mut daemon = Self(command.spawn().expect("it is installed"));
        let end = Instant::now() + PATIENCE;
        for port in ports {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err() {
                let ended = daemon.0.try_wait().expect("it is our child");
                assert!(
                    ended.is_none() && Instant::now() < end,
                    "{command:?} does not listen ({ended:?}): {}",
                    std::fs::read_to_string(&log).expect("what it said"),
                );
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
