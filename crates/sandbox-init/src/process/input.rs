//! Standard input: from the requests of a `Run` to the process, at the pace of the process. What it
//! has not read stays in the call's window, and then with the host.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use protocol::v1::RunRequest;
use protocol::v1::run_request::Request;
use tokio::io::unix::AsyncFd;
use tonic::Streaming;

use super::runs::Run;
use crate::error::Error;
use crate::limits::MAX_STDIN_MESSAGE;

/// The requests after `start`.
#[derive(Debug)]
pub(crate) struct Input {
    requests: Streaming<RunRequest>,
    pipe: Pipe,
    run: Arc<Run>,
}

#[derive(Debug)]
enum Pipe {
    /// The process reads.
    Open(AsyncFd<OwnedFd>),
    /// The process reads no more: input is thrown away, as a shell's pipe would.
    Broken,
    /// Input has ended, or there never was any.
    Ended,
}

impl Input {
    /// Without a pipe any input is an error.
    pub(crate) fn new(
        requests: Streaming<RunRequest>,
        pipe: Option<AsyncFd<OwnedFd>>,
        run: Arc<Run>,
    ) -> Self {
        Self { requests, pipe: pipe.map_or(Pipe::Ended, Pipe::Open), run }
    }

    /// Passes input on until the host half-closes the call; an error is the host's mistake.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        loop {
            let request = match self.requests.message().await {
                Ok(Some(request)) => request.request,
                Ok(None) => {
                    self.end();
                    return Ok(());
                }
                Err(status) => return Err(invalid(status.message())),
            };
            match request {
                Some(Request::Stdin(bytes)) => self.write(bytes).await?,
                Some(Request::CloseStdin(_)) => self.end(),
                Some(Request::Start(_)) => return Err(invalid("start may come only once")),
                None => return Err(invalid("a request of Run is empty")),
            }
        }
    }

    /// Input has ended: that of a pipe closes it, that of a terminal hangs it up.
    fn end(&mut self) {
        self.pipe = Pipe::Ended;
        if let Some(terminal) = self.run.terminal() {
            terminal.hang_up();
        }
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        if bytes.len() > MAX_STDIN_MESSAGE {
            return Err(invalid("stdin holds more than 1 MiB"));
        }
        let pipe = match &self.pipe {
            Pipe::Open(pipe) => pipe,
            Pipe::Broken => return Ok(()),
            Pipe::Ended => return Err(invalid("stdin came where none was announced")),
        };
        while !bytes.is_empty() {
            let Ok(mut ready) = pipe.writable().await else { break };
            match nix::unistd::write(pipe, &bytes) {
                Ok(count) => drop(bytes.split_to(count.min(bytes.len()))),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if !bytes.is_empty() {
            self.pipe = Pipe::Broken;
        }
        Ok(())
    }
}

fn invalid(text: &str) -> Error {
    Error::InvalidRequest(text.to_owned())
}
