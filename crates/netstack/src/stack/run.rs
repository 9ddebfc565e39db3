//! The thread of the data path.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use smoltcp::time::Instant;

use super::core::Core;
use super::inbound::Dial;
use crate::device::{Device, Read};
use crate::error::Error;
use crate::flow::FlowId;
use crate::policy::Answer;

/// Tokens of what is not a flow.
const DEVICE: u64 = u64::MAX;
const MAIL: u64 = u64::MAX - 1;
/// Batches that are read from the device before flows have their turn.
const BATCHES: usize = 4;
const EVENTS: usize = 256;

/// What the data path is told from outside.
pub(crate) enum Command {
    Answer(Answer),
    Dial(Dial),
    ShutDown,
}

/// Where to put commands.
#[derive(Clone)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    bell: Arc<EventFd>,
}

impl Mailbox {
    pub(crate) fn new(commands: Sender<Command>, bell: Arc<EventFd>) -> Self {
        Self { commands, bell }
    }

    /// Puts a command in. When the data path has ended nobody is left to care.
    pub(crate) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // Fails only when the counter is full, and then the bell rings already.
            let _ = self.bell.write(1);
        }
    }
}

/// The data path and what drives it.
pub(crate) struct Runner {
    core: Core,
    device: Device,
    commands: Receiver<Command>,
    bell: Arc<EventFd>,
    started: std::time::Instant,
}

impl Runner {
    pub(crate) fn new(
        core: Core,
        device: Device,
        commands: Receiver<Command>,
        bell: Arc<EventFd>,
    ) -> Result<Self, Error> {
        let edge = EpollFlags::EPOLLET;
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        let setup = |error: Errno| Error::Setup { what: "event queue", source: error.into() };
        core.epoll.add(device.as_fd(), EpollEvent::new(both | edge, DEVICE)).map_err(setup)?;
        let bell_flags = EpollFlags::EPOLLIN | edge;
        core.epoll.add(bell.as_fd(), EpollEvent::new(bell_flags, MAIL)).map_err(setup)?;
        Ok(Self { core, device, commands, bell, started: std::time::Instant::now() })
    }

    /// Runs until the device ends, or a command says so.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let result = self.turns();
        self.core.shut_down();
        result
    }

    fn turns(&mut self) -> Result<(), Error> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut readable = true;
        let mut writable = true;
        loop {
            let busy = readable || self.core.has_work();
            let timeout = if busy { EpollTimeout::ZERO } else { self.timeout() };
            let count = match self.core.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    return Err(Error::Setup { what: "event queue", source: error.into() });
                }
            };
            let now = self.now();
            for event in &events[..count] {
                match event.data() {
                    DEVICE => {
                        let flags = event.events();
                        readable |= flags != EpollFlags::EPOLLOUT;
                        writable |= flags.contains(EpollFlags::EPOLLOUT);
                    }
                    MAIL => {
                        if self.read_mail(now) {
                            return Ok(());
                        }
                    }
                    id => self.core.ready(FlowId(id), event.events()),
                }
            }
            for _ in 0..BATCHES {
                if !readable {
                    break;
                }
                let core = &mut self.core;
                match self.device.read(&mut |frame, sums| core.frame(frame, sums, now))? {
                    Read::More => {}
                    Read::Empty => readable = false,
                    Read::Ended => return Ok(()),
                }
            }
            self.core.expire(now);
            self.core.run(now);
            if writable {
                writable = self.core.write(&mut self.device)?;
            }
        }
    }

    /// Whether the end has been ordered.
    fn read_mail(&mut self, now: Instant) -> bool {
        // Empties the bell first: what is put in after rings again.
        let _ = self.bell.read();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Answer(answer) => self.core.answer(answer, now),
                Command::Dial(dial) => self.core.dial(dial, now),
                Command::ShutDown => return true,
            }
        }
        false
    }

    fn now(&self) -> Instant {
        // Half a million years fit.
        let micros = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Instant::from_micros(micros)
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(at) = self.core.next_deadline() else { return EpollTimeout::NONE };
        let left = at.total_micros().saturating_sub(self.now().total_micros()).max(0);
        // Rounded up: woken early, there would be nothing to do.
        let millis = left.cast_unsigned().div_ceil(1000);
        EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX))
            .unwrap_or(EpollTimeout::ZERO)
    }
}
