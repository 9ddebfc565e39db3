//! A cable between the guest's device and the stack that loses, doubles and delays frames. The same
//! seed gives the same decisions, frame by frame.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use netstack::device::Device;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::plain_tap;

/// What befalls frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    /// Of a thousand frames.
    pub(crate) lost: u64,
    /// Of a thousand frames.
    pub(crate) doubled: u64,
    /// Every frame takes as long.
    pub(crate) delay: Duration,
    /// And up to this more, each on its own: they overtake each other.
    pub(crate) jitter: Duration,
}

/// One direction.
struct Way {
    weather: Weather,
    state: u64,
    number: u64,
    frames: BTreeMap<(Instant, u64), Vec<u8>>,
}

impl Way {
    fn new(weather: Weather, salt: u64) -> Self {
        let state = (weather.seed + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { weather, state, number: 0, frames: BTreeMap::new() }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % sides
    }

    fn put(&mut self, frame: &[u8]) {
        let Weather { lost, doubled, delay, jitter, .. } = self.weather;
        let copies = match self.roll(1000) {
            roll if roll < lost => 0,
            roll if roll < lost + doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let most = u64::try_from(jitter.as_micros()).expect("a short time");
            let late = delay + Duration::from_micros(self.roll(most + 1));
            self.number += 1;
            self.frames.insert((Instant::now() + late, self.number), frame.to_vec());
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let first = self.frames.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|(key, _)| key.0)
    }
}

/// Makes a TAP device in the namespace of the calling thread, and a cable to it.
pub(crate) fn plug(name: &str, weather: Weather) -> io::Result<Device> {
    let tap = plain_tap(name)?;
    let (ours, theirs) = UnixStream::pair()?;
    thread::spawn(move || carry(tap, ours, weather));
    Device::frame_socket(theirs).map_err(io::Error::other)
}

/// Carries frames until the stack hangs up.
fn carry(mut tap: File, mut socket: UnixStream, weather: Weather) -> io::Result<()> {
    let (mut up, mut down) = (Way::new(weather, 1), Way::new(weather, 2));
    let (mut buffer, mut partial) = (vec![0; 1 << 17], Vec::new());
    loop {
        let due = [up.next(), down.next()].into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        // In whole milliseconds: frames that are due at once go at once.
        let timeout = wait.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(wait.as_micros().div_ceil(1000)).expect("a short time")
        });
        let both = [tap.as_fd(), socket.as_fd()];
        let mut ready = both.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut ready, timeout)?;
        let [from_tap, from_stack] = ready.map(|fd| fd.any().unwrap_or(false));
        if from_tap {
            while let Ok(count) = tap.read(&mut buffer) {
                up.put(&buffer[..count]);
            }
        }
        if from_stack {
            match socket.read(&mut buffer)? {
                0 => return Ok(()),
                count => partial.extend_from_slice(&buffer[..count]),
            }
            while let Some((length, rest)) = partial.split_first_chunk::<4>() {
                let Some(frame) = rest.get(..u32::from_be_bytes(*length) as usize) else { break };
                down.put(frame);
                let whole = 4 + frame.len();
                partial.drain(..whole);
            }
        }
        while let Some(frame) = up.take() {
            let length = u32::try_from(frame.len()).expect("a frame").to_be_bytes();
            socket.write_all(&[&length[..], &frame].concat())?;
        }
        while let Some(frame) = down.take() {
            // A device that is down, or full, loses it.
            let _ = tap.write(&frame);
        }
    }
}
