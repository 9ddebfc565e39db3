//! `lanebox.v1.ImageService`.

use futures::{Stream, StreamExt, stream};
use protocol::v1;
use protocol::v1::image_service_server::ImageService;
use std::pin::Pin;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use crate::error::Error;
use crate::flatten::flatten;
use crate::lane::Lane;
use crate::request;

/// Works on images. For the owner alone: it is not on the debug socket.
#[derive(Clone)]
pub struct Images {
    lane: Lane,
}

impl Images {
    /// Of this lane, whose stores and journal it uses.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

#[async_trait]
impl ImageService for Images {
    type FlattenStream = Pin<Box<dyn Stream<Item = Result<v1::FlattenResponse, Status>> + Send>>;

    async fn flatten(
        &self,
        request: Request<v1::FlattenRequest>,
    ) -> Result<Response<Self::FlattenStream>, Status> {
        let plan = request::flatten(request.into_inner()).map_err(Error::from)?;
        let (told, progress) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let cancel = CancellationToken::new();
        let give_up = cancel.clone().drop_guard();
        let lane = self.lane.clone();
        tokio::spawn(async move {
            // Nobody waits for each: the next is as good.
            let mut last = None;
            let tell = |now: blockcow::FlattenProgress| {
                let now =
                    v1::FlattenResponse { position_bytes: now.position, size_bytes: now.size };
                last = Some(now);
                let _ = told.try_send(Ok(now));
            };
            let work = flatten(plan, lane.block_stores(), lane.journal(), tell);
            let result = tokio::select! {
                result = work => result,
                () = cancel.cancelled() => return,
            };
            drop(told);
            let _ = end.send(result.map(|()| last.unwrap_or_default()).map_err(Status::from));
        });
        let progress = stream::unfold((progress, give_up), |(mut progress, give_up)| async {
            Some((progress.recv().await?, (progress, give_up)))
        });
        let ended = stream::once(ended).filter_map(|ended| std::future::ready(ended.ok()));
        Ok(Response::new(Box::pin(progress.chain(ended))))
    }
}
