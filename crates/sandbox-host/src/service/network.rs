//! `lanebox.v1.NetworkService`.

use protocol::v1;
use protocol::v1::network_service_server::NetworkService;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::callback::{self, Responses};
use crate::error::Error;
use crate::lane::Lane;
use crate::request;

/// The network of the VM. For the owner alone: it is not on the debug socket.
#[derive(Clone)]
pub struct Networks {
    lane: Lane,
}

impl Networks {
    /// Of this lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl NetworkService for Networks {
    type ServeNetworkStream = Responses<v1::ServeNetworkResponse>;

    async fn serve_network(
        &self,
        request: Request<Streaming<v1::ServeNetworkRequest>>,
    ) -> Result<Response<Self::ServeNetworkStream>, Status> {
        let questions = callback::serve(self.lane.networks(), request.into_inner()).await?;
        Ok(Response::new(questions))
    }

    async fn set_network_policy(
        &self,
        request: Request<v1::SetNetworkPolicyRequest>,
    ) -> Result<Response<v1::SetNetworkPolicyResponse>, Status> {
        let policy = request.into_inner().policy.unwrap_or_default();
        let plan = request::policy("policy", policy).map_err(Error::from)?;
        let control = self.lane.network().await?;
        control.set_policy("policy", plan, self.lane.networks()).await?;
        Ok(Response::new(v1::SetNetworkPolicyResponse {}))
    }

    async fn publish_port(
        &self,
        request: Request<v1::PublishPortRequest>,
    ) -> Result<Response<v1::PublishPortResponse>, Status> {
        let plan = request::publish(&request.into_inner()).map_err(Error::from)?;
        let listening = self.lane.network().await?.publish(&plan).await?;
        Ok(Response::new(v1::PublishPortResponse {
            id: listening.id,
            host_port: listening.port.into(),
            hosts: listening.hosts.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn unpublish_port(
        &self,
        request: Request<v1::UnpublishPortRequest>,
    ) -> Result<Response<v1::UnpublishPortResponse>, Status> {
        let v1::UnpublishPortRequest { id } = request.into_inner();
        self.lane.network().await?.unpublish(id).await?;
        Ok(Response::new(v1::UnpublishPortResponse {}))
    }
}
