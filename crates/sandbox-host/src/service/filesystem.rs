//! `lanebox.v1.FilesystemService`.

use protocol::v1::ServeFilesystemRequest;
use protocol::v1::filesystem_service_server::FilesystemService;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::lane::Lane;
use crate::mount;

/// Takes the callbacks of mounts. For the owner alone: it is not on the debug socket.
#[derive(Clone)]
pub struct Filesystems {
    lane: Lane,
}

impl Filesystems {
    /// Of this lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl FilesystemService for Filesystems {
    type ServeFilesystemStream = mount::Questions;

    async fn serve_filesystem(
        &self,
        request: Request<Streaming<ServeFilesystemRequest>>,
    ) -> Result<Response<Self::ServeFilesystemStream>, Status> {
        let questions = mount::serve(self.lane.filesystems(), request.into_inner()).await?;
        Ok(Response::new(questions))
    }
}
