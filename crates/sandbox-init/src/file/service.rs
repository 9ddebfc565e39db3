//! `FileService`: each call is handed to a worker and its answers back.

use std::pin::pin;
use std::sync::Arc;

use futures::{StreamExt, stream};
use prost::Message;
use protocol::guest::v1::file_service_server::FileService;
use protocol::v1::{
    ChangeModeRequest, ChangeModeResponse, MakeDirectoryRequest, MakeDirectoryResponse,
    MakeSymlinkRequest, MakeSymlinkResponse, ReadDirectoryRequest, ReadDirectoryResponse,
    ReadFileRequest, ReadFileResponse, ReadLinkRequest, ReadLinkResponse, ReadTreeRequest,
    ReadTreeResponse, RemoveRequest, RemoveResponse, RenameRequest, RenameResponse, StatRequest,
    StatResponse, WriteFileRequest, WriteFileResponse, WriteTreeRequest, WriteTreeResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::frame::{self, Kind};
use super::worker::{Items, Method, Worker};
use crate::error::Error;
use crate::machine::Machine;

/// The service over the one machine.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    machine: Arc<Machine>,
}

impl Files {
    /// Works on the files of `machine`.
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }

    async fn begin(&self, method: Method, request: &impl Message) -> Result<Worker, Error> {
        let mut worker = Worker::start(&self.machine, method)?;
        let request = request.encode_to_vec();
        // A worker that has died is told of by its answer.
        let _ = frame::send(&mut worker.stream, Kind::Method(method as u8), &request).await;
        Ok(worker)
    }

    /// One request, one answer; without a message of its own the answer is empty.
    async fn one<R: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<Response<R>, Status> {
        let mut worker = self.begin(method, request).await?;
        let answer = Worker::receive(&mut worker.stream).await?;
        Ok(Response::new(answer.unwrap_or_default()))
    }

    /// One request, many answers. The worker waits when the host does not take them.
    async fn many<R: Message + Default + 'static>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<Response<Items<R>>, Status> {
        let mut worker = self.begin(method, request).await?;
        let first = Worker::receive::<R>(&mut worker.stream).await?;
        let rest = stream::unfold(first.is_some().then_some(worker), |worker| async {
            let mut worker = worker?;
            match Worker::receive::<R>(&mut worker.stream).await {
                Ok(answer) => answer.map(|answer| (Ok(answer), Some(worker))),
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(stream::iter(first.map(Ok)).chain(rest))))
    }

    /// Many requests, one empty answer.
    async fn upload<Q: Message, R: Default>(
        &self,
        method: Method,
        mut requests: Streaming<Q>,
    ) -> Result<Response<R>, Status> {
        let mut worker = Worker::start(&self.machine, method)?;
        let (mut reader, mut writer) = worker.stream.split();
        let mut answer = pin!(Worker::receive::<StatResponse>(&mut reader));
        let mut sending = pin!(async {
            loop {
                let Some(message) = requests.message().await? else { break };
                if frame::send(&mut writer, Kind::Item, &message.encode_to_vec()).await.is_err() {
                    return Ok(());
                }
            }
            let _ = frame::send(&mut writer, Kind::End, &[]).await;
            Ok::<(), Status>(())
        });
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                told = &mut answer => return told.map(|_| Response::new(R::default())).map_err(Status::from),
                // The host's side has failed: what is written stays, and nobody is told.
                sent = &mut sending, if open => {
                    sent?;
                    open = false;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl FileService for Files {
    type ReadDirectoryStream = Items<ReadDirectoryResponse>;
    type ReadFileStream = Items<ReadFileResponse>;
    type ReadTreeStream = Items<ReadTreeResponse>;

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        self.one(Method::Stat, request.get_ref()).await
    }

    async fn read_directory(
        &self,
        request: Request<ReadDirectoryRequest>,
    ) -> Result<Response<Self::ReadDirectoryStream>, Status> {
        self.many(Method::ReadDirectory, request.get_ref()).await
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        self.many(Method::ReadFile, request.get_ref()).await
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        self.upload(Method::WriteFile, request.into_inner()).await
    }

    async fn make_directory(
        &self,
        request: Request<MakeDirectoryRequest>,
    ) -> Result<Response<MakeDirectoryResponse>, Status> {
        self.one(Method::MakeDirectory, request.get_ref()).await
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        self.one(Method::Remove, request.get_ref()).await
    }

    async fn rename(
        &self,
        request: Request<RenameRequest>,
    ) -> Result<Response<RenameResponse>, Status> {
        self.one(Method::Rename, request.get_ref()).await
    }

    async fn change_mode(
        &self,
        request: Request<ChangeModeRequest>,
    ) -> Result<Response<ChangeModeResponse>, Status> {
        self.one(Method::ChangeMode, request.get_ref()).await
    }

    async fn make_symlink(
        &self,
        request: Request<MakeSymlinkRequest>,
    ) -> Result<Response<MakeSymlinkResponse>, Status> {
        self.one(Method::MakeSymlink, request.get_ref()).await
    }

    async fn read_link(
        &self,
        request: Request<ReadLinkRequest>,
    ) -> Result<Response<ReadLinkResponse>, Status> {
        self.one(Method::ReadLink, request.get_ref()).await
    }

    async fn read_tree(
        &self,
        request: Request<ReadTreeRequest>,
    ) -> Result<Response<Self::ReadTreeStream>, Status> {
        self.many(Method::ReadTree, request.get_ref()).await
    }

    async fn write_tree(
        &self,
        request: Request<Streaming<WriteTreeRequest>>,
    ) -> Result<Response<WriteTreeResponse>, Status> {
        self.upload(Method::WriteTree, request.into_inner()).await
    }
}
