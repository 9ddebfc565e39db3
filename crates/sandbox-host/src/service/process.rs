//! `lanebox.v1.ProcessService`.

use protocol::v1::process_service_server::ProcessService;
use protocol::v1::{RunRequest, SignalRequest, SignalResponse};
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
}
