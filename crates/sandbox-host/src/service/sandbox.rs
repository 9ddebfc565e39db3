//! `lanebox.v1.SandboxService`.

use std::pin::Pin;

use futures::{Stream, stream};
use protocol::v1;
use protocol::v1::sandbox_service_server::SandboxService;
use tonic::{Request, Response, Status, async_trait};

use super::{Access, convert};
use crate::error::Error;
use crate::lane::Lane;
use crate::limits::SHUTDOWN_DEFAULT;
use crate::request;

/// The life of the VM.
#[derive(Clone)]
pub struct Sandbox {
    lane: Lane,
    access: Access,
}

impl Sandbox {
    /// Of this lane, for those with this access.
    pub fn new(lane: Lane, access: Access) -> Self {
        Self { lane, access }
    }

    fn owner_only(&self, call: &'static str) -> Result<(), Error> {
        match self.access {
            Access::Owner => Ok(()),
            Access::Debug => Err(Error::OwnerOnly(call)),
        }
    }
}

#[async_trait]
impl SandboxService for Sandbox {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn probe(
        &self,
        _request: Request<v1::ProbeRequest>,
    ) -> Result<Response<v1::ProbeResponse>, Status> {
        let engines = self.lane.probe().await.into_iter().map(convert::finding).collect();
        let host_version = env!("CARGO_PKG_VERSION").to_owned();
        let report = self.lane.granted().report();
        let confinement = report.to_string();
        let confinement_missing = report.all_missing();
        let response =
            v1::ProbeResponse { engines, host_version, confinement, confinement_missing };
        Ok(Response::new(response))
    }

    async fn boot(
        &self,
        request: Request<v1::BootRequest>,
    ) -> Result<Response<v1::BootResponse>, Status> {
        self.owner_only("Boot")?;
        let plan = request::boot(request.into_inner()).map_err(Error::from)?;
        let booted = self.lane.boot(plan).await?;
        Ok(Response::new(convert::booted(booted)))
    }

    async fn watch(
        &self,
        _request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let permit = self.lane.permit_watch()?;
        let watcher = self.lane.journal().watch();
        let events = stream::unfold((watcher, permit), |(mut watcher, permit)| async {
            let (time, observation) = watcher.next().await?;
            Some((Ok(convert::observation(time, observation)), (watcher, permit)))
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(convert::status(self.lane.journal().status())))
    }

    async fn get_metrics(
        &self,
        _request: Request<v1::GetMetricsRequest>,
    ) -> Result<Response<v1::GetMetricsResponse>, Status> {
        let measured = self.lane.measure().await?;
        let guest = match measured.guest.usage().await {
            Ok(usage) => Some(usage),
            Err(error) => {
                tracing::debug!(%error, "the guest does not tell what it uses");
                None
            }
        };
        Ok(Response::new(convert::metrics(&measured, guest)))
    }

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownResponse>, Status> {
        self.owner_only("Shutdown")?;
        let within = request::deadline(request.into_inner().deadline_ms, SHUTDOWN_DEFAULT);
        let ended = self.lane.shutdown(within.map_err(Error::from)?).await?;
        Ok(Response::new(v1::ShutdownResponse { exited: Some(convert::ended(&ended)) }))
    }
}
