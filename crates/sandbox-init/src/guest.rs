//! `GuestService`: converts, calls, converts.

use std::sync::Arc;
use std::time::Duration;

use protocol::guest::v1::guest_service_server::GuestService;
use protocol::guest::v1::{
    AnnounceChangesRequest, AnnounceChangesResponse, ConfigureRequest, ConfigureResponse,
    Configured, GetUsageRequest, GetUsageResponse, SetClockRequest, SetClockResponse,
    ShutdownRequest, ShutdownResponse, StepStarted, configure_response,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::announce;
use crate::boot::Step;
use crate::boot::cgroup::{self, Usage};
use crate::boot::configure::{self, Announce, set_clock};
use crate::boot::settings::{Settings, timespec};
use crate::channel::Written;
use crate::error::Error;
use crate::limits::{ANNOUNCE_DEADLINE, MAX_SHUTDOWN_GRACE};
use crate::machine::Machine;
use crate::shutdown;

/// The service over the one machine.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    machine: Arc<Machine>,
}

type Steps = mpsc::Sender<Result<ConfigureResponse, Status>>;

impl Guest {
    /// Sets up and ends `machine`.
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }
}

#[tonic::async_trait]
impl GuestService for Guest {
    type ConfigureStream = ReceiverStream<Result<ConfigureResponse, Status>>;

    async fn configure(
        &self,
        request: Request<ConfigureRequest>,
    ) -> Result<Response<Self::ConfigureStream>, Status> {
        let settings = Settings::new(request.into_inner())?;
        self.machine.begin_configure()?;
        let clock = set_clock(settings.time);
        let (steps, responses) = mpsc::channel(1);
        let machine = Arc::clone(&self.machine);
        // A task of its own: a host that drops the call does not stop it half way.
        tokio::spawn(async move {
            let mut announcer = Announcer { steps, written: machine.written.clone() };
            let result =
                configure::run(settings, clock, &machine.filesystems, &mut announcer).await;
            let (lane, answer) = match result {
                Ok((lane, warning)) => {
                    (Some(lane), kernel_release().map(|release| configured(release, warning)))
                }
                Err(error) => (None, Err(error)),
            };
            machine.end_configure(lane);
            // The host may have dropped the call.
            let _ = announcer.steps.send(answer.map_err(Status::from)).await;
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn set_clock(
        &self,
        request: Request<SetClockRequest>,
    ) -> Result<Response<SetClockResponse>, Status> {
        let time = timespec(request.get_ref().time_unix_nanos)?;
        set_clock(time).map_err(|failure| Error::System {
            what: "Setting the clock",
            errno: failure.errno().unwrap_or(nix::errno::Errno::EINVAL),
        })?;
        Ok(Response::new(SetClockResponse {}))
    }

    async fn get_usage(
        &self,
        _request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        self.machine.lane()?;
        let Usage { cpu_micros, memory, available } = cgroup::usage();
        let (memory_bytes, available_bytes) = (memory, available);
        Ok(Response::new(GetUsageResponse { cpu_micros, memory_bytes, available_bytes }))
    }

    async fn announce_changes(
        &self,
        request: Request<AnnounceChangesRequest>,
    ) -> Result<Response<AnnounceChangesResponse>, Status> {
        self.machine.lane()?;
        announce::run(&self.machine, request.into_inner()).await?;
        Ok(Response::new(AnnounceChangesResponse {}))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let grace = Duration::from_millis(request.get_ref().grace_ms.into());
        let machine = Arc::clone(&self.machine);
        machine.begin_shutdown()?;
        let (answer, problems) = oneshot::channel();
        // A task of its own: once begun it ends with the reset, whatever the host does.
        let task = tokio::spawn(async move {
            let problems = shutdown::run(&machine, grace.min(MAX_SHUTDOWN_GRACE)).await;
            // The host may have dropped the call.
            let _ = answer.send(problems);
        });
        let machine = Arc::clone(&self.machine);
        tokio::spawn(async move {
            // Even when the task has panicked.
            let _ = task.await;
            machine.finished.notify_one();
        });
        let problems = problems.await.map_err(|_| Error::Defect)?;
        Ok(Response::new(ShutdownResponse { problems }))
    }
}

/// Tells the host of each step, and waits until that has left: the steps block the thread.
struct Announcer {
    steps: Steps,
    written: Written,
}

impl Announce for Announcer {
    async fn announce(&mut self, step: Step) {
        let before = self.written.bytes();
        let started = StepStarted { name: step.name().to_owned() };
        let response = configure_response::Response::StepStarted(started);
        if self.steps.send(Ok(ConfigureResponse { response: Some(response) })).await.is_err() {
            return;
        }
        let left = async {
            while self.written.bytes() == before {
                tokio::task::yield_now().await;
            }
        };
        // Late is better than never: the step is taken anyway.
        let _ = timeout(ANNOUNCE_DEADLINE, left).await;
    }
}

fn configured(kernel_release: String, warning: Option<String>) -> ConfigureResponse {
    let configured = Configured { kernel_release, warnings: Vec::from_iter(warning) };
    ConfigureResponse { response: Some(configure_response::Response::Configured(configured)) }
}

fn kernel_release() -> Result<String, Error> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| Error::System { what: "Asking for the kernel's release", errno })?;
    Ok(name.release().to_string_lossy().into_owned())
}
