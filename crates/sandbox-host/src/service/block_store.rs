//! `lanebox.v1.BlockStoreService`.

use protocol::v1::block_store_service_server::BlockStoreService;
use protocol::v1::{ServeBlockStoreRequest, ServeBlockStoreResponse};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::callback::{self, Responses};
use crate::lane::Lane;

/// Takes the callbacks of block stores. For the owner alone: it is not on the debug socket.
#[derive(Clone)]
pub struct BlockStores {
    lane: Lane,
}

impl BlockStores {
    /// Of this lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl BlockStoreService for BlockStores {
    type ServeBlockStoreStream = Responses<ServeBlockStoreResponse>;

    async fn serve_block_store(
        &self,
        request: Request<Streaming<ServeBlockStoreRequest>>,
    ) -> Result<Response<Self::ServeBlockStoreStream>, Status> {
        let questions = callback::serve(self.lane.block_stores(), request.into_inner()).await?;
        Ok(Response::new(questions))
    }
}
