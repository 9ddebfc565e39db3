//! `lanebox.v1.ProcessService`.

use protocol::v1::process_service_server::ProcessService;
use protocol::v1::{
    ResizeRequest, ResizeResponse, RunRequest, SignalRequest, SignalResponse, WaitRequest,
    WaitResponse,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::error::Error;
use crate::lane::Lane;
use crate::{relay, request};

/// Runs programs in the guest.
#[derive(Clone)]
pub struct Processes {
    lane: Lane,
}

impl Processes {
    /// Of this lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl ProcessService for Processes {
    type RunStream = relay::Output;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        Ok(Response::new(relay::start(&self.lane, request.into_inner()).await?))
    }

    async fn signal(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalResponse>, Status> {
        let plan = request::signal(request.into_inner()).map_err(Error::from)?;
        let guest = self.lane.guest().await?;
        match guest.signal(plan).await {
            Ok(()) => Ok(Response::new(SignalResponse {})),
            Err(error) => Err(relay::explain(self.lane.journal(), error).await.into()),
        }
    }

    async fn resize(
        &self,
        request: Request<ResizeRequest>,
    ) -> Result<Response<ResizeResponse>, Status> {
        let request = request::resize(request.into_inner()).map_err(Error::from)?;
        let guest = self.lane.guest().await?;
        match guest.resize(request).await {
            Ok(()) => Ok(Response::new(ResizeResponse {})),
            Err(error) => Err(relay::explain(self.lane.journal(), error).await.into()),
        }
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let _permit = self.lane.permit_wait()?;
        let request = request::wait(request.into_inner()).map_err(Error::from)?;
        let guest = self.lane.guest().await?;
        let journal = self.lane.journal();
        tokio::select! {
            biased;
            waited = guest.wait(request) => match waited {
                Ok(exited) => Ok(Response::new(WaitResponse { exited: Some(exited) })),
                Err(error) => Err(relay::explain(journal, error).await.into()),
            },
            ended = journal.wait_ended() => Err(Error::Ended(ended).into()),
        }
    }
}
