//! What happens on the keeper's thread, from fork to reaping.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};

use super::keeper::{Order, Reports, Shared};
use super::last_words::LastWords;
use super::qmp::{self, Lines, Message};
use crate::error::{ControlError, StartError};
use crate::exit::{Exit, ExitReason};
use crate::launcher;
use crate::sys::pidfd::PidFd;

/// Numbers of the first two commands; orders count on from them. QEMU tells no events before the
/// negotiation, so the guest, which may end at once, is held until then (`-S`).
const NEGOTIATE: u64 = 0;
const LET_GO: u64 = 1;
/// Commands that QEMU may leave unanswered before no more are sent.
const MAX_UNANSWERED: usize = 16;
/// Bytes that are taken from a channel before the others have their turn.
const TURN: usize = 16 * 1024;
/// Turns that a process that has ended may still have, for what it has left in a channel.
const LAST_TURNS: usize = 32;

/// The process and its channels.
pub(super) struct Process<'a> {
    child: Child,
    shared: &'a Shared,
    orders: mpsc::Receiver<Order>,
    reports: Reports,
    stderr: Option<ChildStderr>,
    last_words: LastWords,
    monitor: Option<UnixStream>,
    lines: Lines,
    version: Option<qmp::Version>,
    unanswered: VecDeque<(u64, oneshot::Sender<Result<(), ControlError>>)>,
    last_number: u64,
    shutdown: Option<ExitReason>,
}

impl<'a> Process<'a> {
    /// Runs `command` to its end. Everything that there is to tell goes to `reports`.
    pub(super) fn run(
        command: Command,
        monitor: UnixStream,
        shared: &'a Shared,
        orders: mpsc::Receiver<Order>,
        mut reports: Reports,
    ) {
        let program = command.get_program().to_string_lossy().into_owned();
        let (command, spawned) = launcher::start(command);
        // Closes our copies of the descriptors that the child was given: from here on the end of
        // the child is the end of file of their other ends.
        drop(command);
        let mut child = match spawned {
            Ok(child) => child,
            Err(source) => return reports.ready(Err(StartError::Spawn { program, source })),
        };
        let handle = match PidFd::of_child(&child) {
            Ok(handle) => handle,
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                let what = "a handle on its process";
                return reports.ready(Err(StartError::Resource { what, source }));
            }
        };
        // Set once, here.
        let _ = shared.process.set((child.id(), handle));
        shared.kill_if_started();
        let stderr = child.stderr.take().filter(|stderr| set_nonblocking(stderr).is_ok());
        let process = Self {
            child,
            shared,
            orders,
            reports,
            stderr,
            last_words: LastWords::default(),
            monitor: Some(monitor),
            lines: Lines::default(),
            version: None,
            unanswered: VecDeque::new(),
            last_number: LET_GO,
            shutdown: None,
        };
        process.keep();
    }

    fn keep(mut self) {
        loop {
            match self.wait_for_something() {
                Ok(ready) => {
                    if ready.stderr {
                        self.read_stderr();
                    }
                    if ready.monitor {
                        self.read_monitor();
                    }
                    if ready.orders {
                        self.take_orders();
                    }
                    if ready.ended {
                        break;
                    }
                }
                Err(error) => {
                    // Cannot be seen any more, so it cannot be left alone.
                    tracing::error!(%error, "poll failed; the engine is killed");
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        for _ in 0..LAST_TURNS {
            self.read_stderr();
            self.read_monitor();
        }
        let status = self.child.wait();
        let killed = self.shared.killed.load(Ordering::SeqCst);
        let other = if killed { ExitReason::Killed } else { ExitReason::Failed };
        let exit = Exit {
            code: status.as_ref().ok().and_then(std::process::ExitStatus::code),
            signal: status.as_ref().ok().and_then(ExitStatusExt::signal),
            reason: self.shutdown.unwrap_or(other),
            last_words: self.last_words.text(),
        };
        tracing::debug!(?exit, "the engine ended");
        self.reports.ended.send_replace(Some(exit));
    }

    fn wait_for_something(&self) -> Result<Ready, Errno> {
        let Some((_, handle)) = self.shared.process.get() else { return Err(Errno::ESRCH) };
        let polled = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![polled(handle.as_fd()), polled(self.shared.orders_came.as_fd())];
        fds.extend(self.stderr.as_ref().map(|stderr| polled(stderr.as_fd())));
        fds.extend(self.monitor.as_ref().map(|monitor| polled(monitor.as_fd())));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        let came = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
        let after_stderr = 2 + usize::from(self.stderr.is_some());
        Ok(Ready {
            ended: came(0),
            orders: came(1),
            stderr: self.stderr.is_some() && came(2),
            monitor: self.monitor.is_some() && came(after_stderr),
        })
    }

    fn read_stderr(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        match read_turn(stderr) {
            Ok(bytes) => self.last_words.push(&bytes),
            Err(_) => self.stderr = None,
        }
    }

    fn read_monitor(&mut self) {
        let Some(monitor) = &mut self.monitor else { return };
        let messages = match read_turn(monitor) {
            Ok(bytes) => self.lines.push(&bytes),
            Err(_) => return self.give_up(&ControlError::Gone),
        };
        match messages {
            Ok(messages) => messages.into_iter().for_each(|message| self.hear(message)),
            Err(problem) => self.give_up(&ControlError::Protocol(problem)),
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Greeting(version) if self.version.is_none() => {
                self.version = Some(version);
                self.say("qmp_capabilities", NEGOTIATE);
                self.say("cont", LET_GO);
            }
            Message::Done(LET_GO) => {
                if let Some(version) = self.version.clone() {
                    self.reports.ready(Ok(version));
                }
            }
            Message::Refused(NEGOTIATE | LET_GO, why) => {
                self.reports.ready(Err(ControlError::Refused(why).into()));
            }
            Message::Done(number) => self.answer(number, Ok(())),
            Message::Refused(number, why) => self.answer(number, Err(ControlError::Refused(why))),
            Message::Shutdown(reason) => self.shutdown = self.shutdown.or(reason),
            Message::Greeting(_) | Message::Other => {}
        }
    }

    fn answer(&mut self, number: u64, result: Result<(), ControlError>) {
        let place = self.unanswered.iter().position(|(waiting, _)| *waiting == number);
        if let Some((_, answer)) = place.and_then(|place| self.unanswered.remove(place)) {
            let _ = answer.send(result);
        }
    }

    fn take_orders(&mut self) {
        let _ = self.shared.orders_came.read();
        while let Ok(Order { command, answer }) = self.orders.try_recv() {
            if self.unanswered.len() >= MAX_UNANSWERED {
                let why = format!("{MAX_UNANSWERED} commands are unanswered");
                let _ = answer.send(Err(ControlError::Protocol(why)));
                continue;
            }
            self.last_number += 1;
            self.unanswered.push_back((self.last_number, answer));
            self.say(command, self.last_number);
        }
    }

    /// Sends a command. It fits the socket's buffer whole: no more than a few are unanswered.
    fn say(&mut self, command: &str, number: u64) {
        let sent = match &mut self.monitor {
            Some(monitor) => monitor.write_all(qmp::command(command, number).as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if sent.is_err() {
            self.give_up(&ControlError::Gone);
        }
    }

    /// Closes the control channel. The machine runs on, but cannot be told anything.
    fn give_up(&mut self, reason: &ControlError) {
        if let ControlError::Protocol(problem) = reason {
            tracing::error!(problem, "the engine broke its control protocol");
            self.reports.ready(Err(ControlError::Protocol(problem.clone()).into()));
        }
        self.monitor = None;
        self.unanswered.clear();
    }
}

impl Reports {
    /// Tells how the start went, the first time. Nobody listens any more when `start` was given
    /// up; then a kill is on its way.
    fn ready(&mut self, result: Result<qmp::Version, StartError>) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(result);
        }
    }
}

struct Ready {
    ended: bool,
    orders: bool,
    stderr: bool,
    monitor: bool,
}

/// What can be read without waiting, up to a bound. An error is the end of the channel.
fn read_turn(channel: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; TURN];
    loop {
        match channel.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
