//! `lanebox.v1.ImageService`.

use blockcow::{Disk, ReadError};
use futures::{Stream, StreamExt, stream};
use protocol::v1;
use protocol::v1::image_service_server::ImageService;
use protocol::v1::read_disk_response::Piece as Wire;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use crate::disk::{Around, DiskError};
use crate::error::Error;
use crate::flatten::{self, flatten};
use crate::lane::Lane;
use crate::limits::DISK_PIECE_BYTES;
use crate::request::{self, RootImage};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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

    async fn open(&self, source: &RootImage) -> Result<Arc<Disk>, Error> {
        self.lane.granted().check_root(source)?;
        flatten::open(source, around(&self.lane)).await
    }
}

fn around(lane: &Lane) -> Around<'_> {
    Around { stores: lane.block_stores(), journal: lane.journal(), granted: lane.granted() }
}

async fn inspect(disk: &Disk) -> Result<v1::InspectDiskResponse, ReadError> {
    let size_bytes = disk.size_bytes();
    let (mut position, mut data_bytes) = (0, 0);
    while let Some(data) = disk.next_data(position..size_bytes).await? {
        data_bytes += data.end - data.start;
        position = data.end;
    }
    Ok(v1::InspectDiskResponse { size_bytes, data_bytes, overlay_bytes: disk.overlay_bytes() })
}

#[async_trait]
impl ImageService for Images {
    type FlattenStream = Answers<v1::FlattenResponse>;
    type ReadDiskStream = Answers<v1::ReadDiskResponse>;

    async fn read_disk(
        &self,
        request: Request<v1::ReadDiskRequest>,
    ) -> Result<Response<Self::ReadDiskStream>, Status> {
        let source = request::kept(request.into_inner().source).map_err(Error::from)?;
        let disk = self.open(&source).await?;
        let pieces = blockcow::contents(disk, DISK_PIECE_BYTES).map(|piece| {
            let piece = match piece.map_err(|source| DiskError::Read { source })? {
                blockcow::Piece::Data(bytes) => Wire::Data(bytes.into()),
                blockcow::Piece::Zeros(count) => Wire::ZeroBytes(count),
            };
            Ok(v1::ReadDiskResponse { piece: Some(piece) })
        });
        let pieces =
            pieces.map(|piece| piece.map_err(|error: DiskError| Error::from(error).into()));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn inspect_disk(
        &self,
        request: Request<v1::InspectDiskRequest>,
    ) -> Result<Response<v1::InspectDiskResponse>, Status> {
        let source = request::kept(request.into_inner().source).map_err(Error::from)?;
        let disk = self.open(&source).await?;
        let found = inspect(&disk).await.map_err(|source| DiskError::Read { source });
        Ok(Response::new(found.map_err(Error::from)?))
    }

    async fn flatten(
        &self,
        request: Request<v1::FlattenRequest>,
    ) -> Result<Response<Self::FlattenStream>, Status> {
        let plan = request::flatten(request.into_inner()).map_err(Error::from)?;
        self.lane.granted().check_flatten(&plan).map_err(Error::from)?;
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
            let work = flatten(plan, around(&lane), tell);
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
