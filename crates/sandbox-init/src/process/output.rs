//! The responses of a `Run`: `started`, output as the host takes it, `exited`.
//!
//! The stream is polled only while the call has room towards the host (hyper asks for HTTP/2
//! capacity first), and only then reads a pipe. When the process has exited, what its pipes hold at
//! that moment is still sent, and not more: a background process that keeps a pipe open, or goes on
//! writing, holds nothing back.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use nix::errno::Errno;
use nix::unistd::Pid;
use protocol::v1::run_response::Response;
use protocol::v1::{ProcessExited, ProcessStarted, RunResponse};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tonic::Status;

use super::signals;
use super::supervise::{Call, Ended};
use crate::error::Error;
use crate::limits::{MAX_OUTPUT_MESSAGE, TERMINAL_REST};
use crate::sys::ioctl::bytes_readable;
use crate::sys::wait::Exit;

/// Reads of one pipe before others get their turn.
const READS_A_TURN: usize = 16;

thread_local! {
    /// Where pipes are read into: messages are then exactly as large as what was read.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_OUTPUT_MESSAGE]);
}

/// One of the two outputs.
#[derive(Debug)]
pub(crate) struct Output {
    pipe: Option<AsyncFd<OwnedFd>>,
    /// It is a terminal's, which does not tell how much it holds.
    is_terminal: bool,
    /// Bytes that may still be sent.
    allowed: u64,
    /// After the exit: bytes that are still to be read.
    rest: Option<usize>,
    truncated: bool,
}

/// What one read brought.
enum Progress {
    Piece(Bytes),
    Again,
    End,
}

impl Output {
    /// Reads `pipe`, sends `max` bytes at most and throws away the rest.
    pub(crate) fn pipe(pipe: AsyncFd<OwnedFd>, max: Option<NonZeroU64>) -> Self {
        let allowed = max.map_or(u64::MAX, NonZeroU64::get);
        Self { pipe: Some(pipe), is_terminal: false, allowed, rest: None, truncated: false }
    }

    /// The same for our side of a terminal.
    pub(crate) fn terminal(master: AsyncFd<OwnedFd>, max: Option<NonZeroU64>) -> Self {
        Self { is_terminal: true, ..Self::pipe(master, max) }
    }

    /// There is none.
    pub(crate) fn none() -> Self {
        Self { pipe: None, is_terminal: false, allowed: 0, rest: None, truncated: false }
    }

    /// The process has exited: only what the pipe holds now is still read.
    fn finish(&mut self) {
        if let Some(pipe) = &self.pipe {
            let held = if self.is_terminal { Ok(TERMINAL_REST) } else { bytes_readable(pipe) };
            self.rest = Some(held.unwrap_or(0));
        }
    }

    /// The next piece of at most `limit` bytes; `None` when there will be no more.
    fn poll_piece(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Option<Bytes>> {
        for _ in 0..READS_A_TURN {
            match ready!(self.poll_read(cx, limit)) {
                Progress::Piece(bytes) => return Poll::Ready(Some(bytes)),
                Progress::Again => {}
                Progress::End => {
                    self.pipe = None;
                    return Poll::Ready(None);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Progress> {
        let Some(pipe) = &self.pipe else { return Poll::Ready(Progress::End) };
        // After the exit there is nothing to wait for, and readiness may be out of date.
        let mut readiness = None;
        match self.rest {
            Some(0) => return Poll::Ready(Progress::End),
            Some(_) => {}
            None => match ready!(pipe.poll_read_ready(cx)) {
                Ok(ready) => readiness = Some(ready),
                Err(_) => return Poll::Ready(Progress::End),
            },
        }
        let discard = self.allowed == 0;
        let allowed = usize::try_from(self.allowed).unwrap_or(usize::MAX);
        let want = if discard { MAX_OUTPUT_MESSAGE } else { limit.min(allowed) };
        let want = self.rest.map_or(want, |rest| rest.min(want));
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let buffer = scratch.get_mut(..want).unwrap_or_default();
            let count = nix::unistd::read(pipe, buffer)?;
            let bytes = buffer.get(..count).filter(|_| !discard).unwrap_or_default();
            Ok((count, Bytes::copy_from_slice(bytes)))
        });
        Poll::Ready(match read {
            Ok((0, _)) => Progress::End,
            Ok((count, bytes)) => {
                self.rest = self.rest.map(|rest| rest.saturating_sub(count));
                if discard {
                    self.truncated = true;
                    Progress::Again
                } else {
                    self.allowed = self.allowed.saturating_sub(count as u64);
                    Progress::Piece(bytes)
                }
            }
            Err(Errno::EINTR) => Progress::Again,
            Err(Errno::EAGAIN) => match &mut readiness {
                Some(readiness) => {
                    readiness.clear_ready();
                    Progress::Again
                }
                // It holds no more; or another reader of the same pipe was faster.
                None => Progress::End,
            },
            Err(_) => Progress::End,
        })
    }
}

#[derive(Debug)]
enum State {
    /// `started` is to be sent.
    Started,
    /// The process runs.
    Running(oneshot::Receiver<Result<Ended, Error>>),
    /// It has ended; its output is being sent.
    Draining(Ended),
    /// Everything has been sent.
    Done,
}

/// See the module. Dropping it before the end terminates the process.
#[derive(Debug)]
pub(crate) struct Responses {
    state: State,
    pid: Pid,
    ended: Option<oneshot::Receiver<Result<Ended, Error>>>,
    stdout: Output,
    stderr: Output,
    /// Whose turn it is first.
    stderr_first: bool,
    call: Call,
}

impl Responses {
    /// The responses of a process that runs.
    pub(crate) fn new(
        pid: Pid,
        ended: oneshot::Receiver<Result<Ended, Error>>,
        stdout: Output,
        stderr: Output,
        call: Call,
    ) -> Self {
        let (state, ended) = (State::Started, Some(ended));
        Self { state, pid, ended, stdout, stderr, stderr_first: false, call }
    }

    /// The next piece of either output, in turns; `None` when both have ended.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let limit = self.call.output_share();
        let mut waits = false;
        for turn in [self.stderr_first, !self.stderr_first] {
            let output = if turn { &mut self.stderr } else { &mut self.stdout };
            match output.poll_piece(cx, limit) {
                Poll::Ready(Some(bytes)) => {
                    self.stderr_first = !turn;
                    let wrap = if turn { Response::Stderr } else { Response::Stdout };
                    return Poll::Ready(Some(wrap(bytes)));
                }
                Poll::Ready(None) => {}
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(None) }
    }

    fn exited(&self, ended: Ended) -> ProcessExited {
        ProcessExited {
            stdout_truncated: self.stdout.truncated,
            stderr_truncated: self.stderr.truncated,
            ..exited(ended)
        }
    }
}

/// An end without what is known of the output.
pub(crate) fn exited(ended: Ended) -> ProcessExited {
    let exited = ProcessExited { timed_out: ended.timed_out, ..ProcessExited::default() };
    match ended.exit {
        Exit::Code(code) => ProcessExited { exit_code: Some(code.unsigned_abs()), ..exited },
        Exit::Signal(number) => ProcessExited {
            signal: number.unsigned_abs(),
            signal_name: signals::name(number),
            ..exited
        },
    }
}

impl Stream for Responses {
    type Item = Result<RunResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let answer = |response| Poll::Ready(Some(Ok(RunResponse { response: Some(response) })));
        loop {
            match &mut this.state {
                State::Started => {
                    this.state = this.ended.take().map_or(State::Done, State::Running);
                    return answer(Response::Started(ProcessStarted {
                        pid: this.pid.as_raw().unsigned_abs(),
                    }));
                }
                State::Running(ended) => match Pin::new(ended).poll(cx) {
                    Poll::Pending => {
                        if let Some(output) = ready!(this.poll_output(cx)) {
                            return answer(output);
                        }
                        // Both outputs are closed: `ended` wakes us.
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok(ended))) => {
                        this.stdout.finish();
                        this.stderr.finish();
                        this.state = State::Draining(ended);
                    }
                    Poll::Ready(failed) => {
                        this.state = State::Done;
                        let error = failed.ok().and_then(Result::err).unwrap_or(Error::Defect);
                        return Poll::Ready(Some(Err(error.into())));
                    }
                },
                State::Draining(ended) => {
                    let ended = *ended;
                    if let Some(output) = ready!(this.poll_output(cx)) {
                        return answer(output);
                    }
                    this.state = State::Done;
                    return answer(Response::Exited(this.exited(ended)));
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }
}
