//! The connection to sandbox-init and its calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{Shutdown, shutdown};
use protocol::guest::v1::configure_response::Response;
use protocol::guest::v1::file_service_client::FileServiceClient;
use protocol::guest::v1::guest_service_client::GuestServiceClient;
use protocol::guest::v1::process_service_client::ProcessServiceClient;
use protocol::guest::v1::{
    AnnounceChangesRequest, ConfigureRequest, GetUsageRequest, GetUsageResponse, ShutdownRequest,
};
use protocol::{ErrorCode, v1};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::check;
use super::error::{self, GuestError};
use super::file;
use super::run::RunStream;
use crate::limits::{
    CLIENT_MESSAGE_BYTES, GUEST_ANNOUNCE, GUEST_BOOT_STEPS, GUEST_CONNECTION_WINDOW,
    GUEST_HEADER_BYTES, GUEST_MESSAGE_BYTES, GUEST_RESET_STREAMS, GUEST_RUN_MESSAGE_BYTES,
    GUEST_SHUTDOWN_PROBLEMS, GUEST_STREAM_WINDOW, GUEST_USAGE, GUEST_WARNINGS, PROCESS_SIGNAL,
};
use crate::request::SignalPlan;
use crate::watched::{Signs, Watched};

const CONFIGURE_ERRORS: &[ErrorCode] =
    &[ErrorCode::BootFailed, ErrorCode::InvalidArgument, ErrorCode::Internal];
const SIGNAL_ERRORS: &[ErrorCode] = &[
    ErrorCode::NotFound,
    ErrorCode::InvalidArgument,
    ErrorCode::SandboxClosed,
    ErrorCode::Internal,
];
const ANNOUNCE_ERRORS: &[ErrorCode] = &[
    ErrorCode::Timeout,
    ErrorCode::InvalidArgument,
    ErrorCode::SandboxClosed,
    ErrorCode::Internal,
];
const WAIT_ERRORS: &[ErrorCode] = &[
    ErrorCode::NotFound,
    ErrorCode::InvalidArgument,
    ErrorCode::Timeout,
    ErrorCode::SandboxClosed,
    ErrorCode::Internal,
];
const SHUTDOWN_ERRORS: &[ErrorCode] =
    &[ErrorCode::SandboxClosed, ErrorCode::InvalidArgument, ErrorCode::Internal];

/// The guest's init, as the host talks to it. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Guest {
    guest: GuestServiceClient<Channel>,
    process: ProcessServiceClient<Channel>,
    files: FileServiceClient<Channel>,
    signs: Signs,
    /// Another descriptor of the connection, to end it from outside the HTTP/2 library.
    socket: Arc<OwnedFd>,
}

impl Guest {
    /// Begins HTTP/2 on the control port. Returns before the guest has answered; see
    /// [`Guest::heard`].
    ///
    /// # Errors
    /// [`GuestError::Lost`] when the stream is closed already.
    pub async fn connect(stream: UnixStream) -> Result<Self, GuestError> {
        let socket = stream.as_fd().try_clone_to_owned().map_err(|_| GuestError::Lost)?;
        let (stream, signs) = Watched::new(stream, ());
        let mut only = Some(TokioIo::new(stream));
        let connector = service_fn(move |_| {
            let stream = only.take();
            async { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let channel = Endpoint::from_static("http://lanebox.control")
            .initial_stream_window_size(GUEST_STREAM_WINDOW)
            .initial_connection_window_size(GUEST_CONNECTION_WINDOW)
            .http2_max_header_list_size(GUEST_HEADER_BYTES)
            .http2_max_concurrent_reset_streams(GUEST_RESET_STREAMS)
            .connect_with_connector(connector)
            .await
            .map_err(|_| GuestError::Lost)?;
        let guest = GuestServiceClient::new(channel.clone())
            .max_decoding_message_size(GUEST_MESSAGE_BYTES)
            .max_encoding_message_size(CLIENT_MESSAGE_BYTES);
        let files = FileServiceClient::new(channel.clone())
            .max_decoding_message_size(GUEST_RUN_MESSAGE_BYTES)
            .max_encoding_message_size(CLIENT_MESSAGE_BYTES);
        let process = ProcessServiceClient::new(channel)
            .max_decoding_message_size(GUEST_RUN_MESSAGE_BYTES)
            .max_encoding_message_size(CLIENT_MESSAGE_BYTES);
        Ok(Self { guest, process, files, signs, socket: Arc::new(socket) })
    }

    /// Waits until the guest's init has opened its port and speaks. The caller has the deadline.
    ///
    /// # Errors
    /// [`GuestError::Lost`].
    pub async fn heard(&self) -> Result<(), GuestError> {
        tokio::select! {
            biased;
            () = self.signs.heard.cancelled() => Ok(()),
            () = self.signs.closed.cancelled() => Err(GuestError::Lost),
        }
    }

    /// Fires when the connection is gone.
    pub fn lost(&self) -> &CancellationToken {
        &self.signs.closed
    }

    /// Ends the connection. The guest, which waits for that after its shutdown, goes on to reset.
    pub fn disconnect(&self) {
        // It fails when the guest was first, and then there is nothing left to do.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Sets the guest up; `on_step` hears each step begin. Returns the kernel's release and what the
    /// owner should know. The caller has the deadline.
    ///
    /// # Errors
    /// [`GuestError`]; a refusal names its step.
    pub async fn configure(
        &self,
        request: ConfigureRequest,
        mut on_step: impl FnMut(&str),
    ) -> Result<(String, Vec<String>), GuestError> {
        let broken = |text: &str| Err(GuestError::Protocol(text.to_owned()));
        let called = self.guest.clone().configure(request).await;
        let mut answers = match called {
            Ok(answers) => answers.into_inner(),
            Err(status) => return Err(self.read(status, CONFIGURE_ERRORS).await),
        };
        let mut steps = 0;
        loop {
            let answer = match answers.message().await {
                Ok(answer) => answer,
                Err(status) => return Err(self.read(status, CONFIGURE_ERRORS).await),
            };
            match answer.map(|answer| answer.response) {
                Some(Some(Response::StepStarted(step))) => {
                    steps += 1;
                    if steps > GUEST_BOOT_STEPS || !check::is_step(&step.name) {
                        return broken("Configure announced too many steps or an ill-formed one");
                    }
                    on_step(&step.name);
                }
                Some(Some(Response::Configured(done))) => {
                    return match check::is_release(&done.kernel_release) {
                        true => {
                            let warnings = done.warnings.iter().take(GUEST_WARNINGS);
                            let warnings = warnings.map(|text| check::sentence(text)).collect();
                            Ok((done.kernel_release, warnings))
                        }
                        false => broken("Configure answered with an ill-formed kernel release"),
                    };
                }
                Some(None) => return broken("Configure sent an empty message"),
                None => return broken("Configure ended without an answer"),
            }
        }
    }

    /// Asks the guest to end its processes, make its filesystems safe and reset. Returns what it
    /// could not unmount. The caller has the deadline.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn shutdown(&self, grace: Duration) -> Result<Vec<String>, GuestError> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        match self.guest.clone().shutdown(ShutdownRequest { grace_ms }).await {
            Ok(answer) => {
                let problems = answer.into_inner().problems;
                let kept = problems.iter().take(GUEST_SHUTDOWN_PROBLEMS);
                Ok(kept.map(|text| check::sentence(text)).collect())
            }
            Err(status) => Err(self.read(status, SHUTDOWN_ERRORS).await),
        }
    }

    /// What the guest's processes use, as it says.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn usage(&self) -> Result<GetUsageResponse, GuestError> {
        match timeout(GUEST_USAGE, self.guest.clone().get_usage(GetUsageRequest {})).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.read(status, SHUTDOWN_ERRORS).await),
            Err(_) => Err(GuestError::Deadline { what: "tell its usage", after: GUEST_USAGE }),
        }
    }

    /// Makes the guest's watchers hear of changes.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn announce_changes(
        &self,
        request: AnnounceChangesRequest,
    ) -> Result<(), GuestError> {
        let mut client = self.guest.clone();
        match timeout(GUEST_ANNOUNCE, client.announce_changes(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(self.read(status, ANNOUNCE_ERRORS).await),
            Err(_) => Err(GuestError::Deadline { what: "announce changes", after: GUEST_ANNOUNCE }),
        }
    }

    /// Sends a signal to a process group.
    ///
    /// # Errors
    /// [`GuestError`]; NOT_FOUND when the process has ended.
    pub async fn signal(&self, plan: SignalPlan) -> Result<(), GuestError> {
        let mut client = self.process.clone();
        let call = client.signal(v1::SignalRequest { pid: plan.pid, signal: plan.signal });
        match timeout(PROCESS_SIGNAL, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(self.read(status, SIGNAL_ERRORS).await),
            Err(_) => Err(GuestError::Deadline { what: "send the signal", after: PROCESS_SIGNAL }),
        }
    }

    /// Gives a process's terminal a new size.
    ///
    /// # Errors
    /// [`GuestError`]; NOT_FOUND when the process has ended or has no terminal.
    pub async fn resize(&self, request: v1::ResizeRequest) -> Result<(), GuestError> {
        let mut client = self.process.clone();
        match timeout(PROCESS_SIGNAL, client.resize(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(self.read(status, SIGNAL_ERRORS).await),
            Err(_) => {
                let what = "resize the terminal";
                Err(GuestError::Deadline { what, after: PROCESS_SIGNAL })
            }
        }
    }

    /// Waits for the end of a process, for as long as it runs.
    ///
    /// # Errors
    /// [`GuestError`]; NOT_FOUND when there is no such process.
    pub async fn wait(&self, request: v1::WaitRequest) -> Result<v1::ProcessExited, GuestError> {
        let exited = match self.process.clone().wait(request).await {
            Ok(answer) => answer.into_inner().exited.unwrap_or_default(),
            Err(status) => return Err(self.read(status, WAIT_ERRORS).await),
        };
        check::exited(&exited).map_err(GuestError::Protocol)?;
        Ok(exited)
    }

    /// Starts a process; returns when the guest has accepted or refused the call.
    ///
    /// # Errors
    /// [`GuestError`].
    pub async fn run(
        &self,
        requests: impl Stream<Item = v1::RunRequest> + Send + 'static,
    ) -> Result<RunStream, GuestError> {
        match self.process.clone().run(requests).await {
            Ok(answers) => Ok(RunStream::new(answers.into_inner(), self.lost().clone())),
            Err(status) => Err(RunStream::read(status, self.lost()).await),
        }
    }

    /// Its files. What comes back is not checked.
    pub fn files(&self) -> FileServiceClient<Channel> {
        self.files.clone()
    }

    /// Why a call about files failed.
    pub async fn read_file_error(&self, status: tonic::Status) -> GuestError {
        self.read(status, file::ERRORS).await
    }

    async fn read(&self, status: tonic::Status, allowed: &[ErrorCode]) -> GuestError {
        error::read(status, allowed, self.lost()).await
    }
}
