//! `ProcessService`: converts, calls, converts.

use std::sync::Arc;

use nix::unistd::Pid;
use protocol::guest::v1::process_service_server::ProcessService;
use protocol::v1::{
    ProcessExited, ResizeRequest, ResizeResponse, RunRequest, SignalRequest, SignalResponse,
    WaitRequest, WaitResponse,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::failure;
use super::input::Input;
use super::output::{Responses, exited};
use super::request::{Command, size};
use super::signals;
use super::start::start;
use super::supervise::{Permit, supervisor};
use crate::error::Error;
use crate::limits::{EXEC_DEADLINE, START_DEADLINE};
use crate::machine::Machine;
use crate::sys::signal::{Target, send};

/// The service over the one machine.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    machine: Arc<Machine>,
}

impl Processes {
    /// Runs processes on `machine`.
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }

    async fn run(&self, mut requests: Streaming<RunRequest>) -> Result<Responses, Status> {
        let permit = Permit::take(&self.machine.runs)?;
        let first = timeout(START_DEADLINE, requests.message())
            .await
            .map_err(|_| Error::StartTimeout)?
            .map_err(|status| Error::InvalidRequest(status.message().to_owned()))?;
        let lane = self.machine.lane()?;
        let command = Command::from_first(first, &lane)?;
        let started = start(&command, &lane, &self.machine.children)?;
        let (run, end) = self.machine.named.register(started.pid, started.terminal);
        let input = Input::new(requests, started.stdin, Arc::clone(&run));
        let (supervisor, call, ended) = supervisor(started.pid, started.exit, permit, (run, end));
        tokio::spawn(supervisor.run(Some(input), command.timeout));
        match timeout(EXEC_DEADLINE, failure::outcome(&started.report)).await {
            Ok(None) => {}
            Ok(Some(failure)) => {
                call.settle();
                return Err(failure.into_error(&command).into());
            }
            // Dropping the call terminates the child.
            Err(_) => return Err(Error::ExecTimeout { command: command.name() }.into()),
        }
        Ok(Responses::new(started.pid, ended, started.stdout, started.stderr, call))
    }

    fn resize(&self, request: ResizeRequest) -> Result<(), Error> {
        let size = size(request.size.unwrap_or_default())?;
        let run = self.machine.named.find(request.pid);
        let terminal = run.as_ref().and_then(|run| run.terminal());
        let terminal = terminal.ok_or(Error::NoSuchProcess { pid: request.pid })?;
        let what = "Resizing the terminal";
        terminal.resize(size).map_err(|errno| Error::System { what, errno })
    }

    async fn wait(&self, pid: u32) -> Result<ProcessExited, Error> {
        let missing = Error::NoSuchProcess { pid };
        let mut end = self.machine.named.find(pid).ok_or_else(|| missing.clone())?.end();
        let ended = end.wait_for(Option::is_some).await.map_err(|_| missing.clone())?.clone();
        ended.ok_or(missing)?.map(exited)
    }

    fn signal(&self, request: &SignalRequest) -> Result<(), Error> {
        let number = signals::number(&request.signal).ok_or_else(|| {
            Error::InvalidRequest(format!("{:?} is not the name of a signal", request.signal))
        })?;
        let missing = Error::NoSuchProcess { pid: request.pid };
        let pid = match i32::try_from(request.pid).map(Pid::from_raw) {
            Ok(pid) if self.machine.children.is_process(pid) => pid,
            _ => return Err(missing),
        };
        send(Target::Group(pid), number).map_err(|_| missing)
    }
}

#[tonic::async_trait]
impl ProcessService for Processes {
    type RunStream = Responses;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Self::run(self, request.into_inner()).await.map(Response::new)
    }

    async fn signal(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalResponse>, Status> {
        Self::signal(self, request.get_ref())?;
        Ok(Response::new(SignalResponse {}))
    }

    async fn resize(
        &self,
        request: Request<ResizeRequest>,
    ) -> Result<Response<ResizeResponse>, Status> {
        Self::resize(self, request.into_inner())?;
        Ok(Response::new(ResizeResponse {}))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let exited = Some(Self::wait(self, request.get_ref().pid).await?);
        Ok(Response::new(WaitResponse { exited }))
    }
}
