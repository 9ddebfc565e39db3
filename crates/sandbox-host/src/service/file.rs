//! `lanebox.v1.FileService`: checks, and passes on.

use protocol::v1;
use protocol::v1::file_service_server::FileService;
use protocol::v1::{write_file_request, write_tree_request};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::error::Error;
use crate::guest::{Content, Directory, Empty, Link, Stat};
use crate::lane::Lane;
use crate::limits::FILE_WRITE_BYTES;
use crate::relay::file;
use crate::request::{RequestError, TreeRules, guest_path, link_target, permissions};

/// Files of the guest.
#[derive(Clone)]
pub struct Files {
    lane: Lane,
}

impl Files {
    /// Of this lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane }
    }
}

/// Checks the requests of `WriteFile`, one after another.
fn write_file_rules() -> impl FnMut(&v1::WriteFileRequest) -> Result<(), Error> + Send {
    use write_file_request::Request::{Data, Open};
    let mut open = false;
    move |message| match &message.request {
        Some(Open(first)) if !open => {
            open = true;
            guest_path("open.path", &first.path)?;
            Ok(permissions("open.permissions", first.permissions)?)
        }
        Some(Data(data)) if open && data.len() > FILE_WRITE_BYTES => {
            let reason = format!("a message holds {FILE_WRITE_BYTES} bytes at most");
            Err(RequestError::new("data", data.len(), reason).into())
        }
        Some(Data(_)) if open => Ok(()),
        _ => Err(Error::Sequence("WriteFile is `open`, then data")),
    }
}

/// Checks the requests of `WriteTree`, one after another.
fn write_tree_rules() -> impl FnMut(&v1::WriteTreeRequest) -> Result<(), Error> + Send {
    use write_tree_request::Request::{Piece, Target};
    let mut rules: Option<TreeRules> = None;
    move |message| match (&message.request, &mut rules) {
        (Some(Target(path)), None) => {
            rules = Some(TreeRules::default());
            Ok(guest_path("target", path)?)
        }
        (Some(Piece(piece)), Some(rules)) => {
            let wrong = |reason| RequestError::new("piece", "a piece of the tree", reason);
            Ok(rules.take(piece).map_err(wrong)?)
        }
        _ => Err(Error::Sequence("WriteTree is `target`, then pieces")),
    }
}

fn path(path: &[u8]) -> Result<(), Error> {
    Ok(guest_path("path", path)?)
}

#[async_trait]
impl FileService for Files {
    type ReadDirectoryStream = file::Answers<v1::ReadDirectoryResponse>;
    type ReadFileStream = file::Answers<v1::ReadFileResponse>;
    type ReadTreeStream = file::Answers<v1::ReadTreeResponse>;

    async fn write_file(
        &self,
        request: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        let call = |guest: crate::guest::Guest, upload| async move {
            guest.files().write_file(upload).await
        };
        Ok(file::upload(&self.lane, request.into_inner(), write_file_rules(), call).await?)
    }

    async fn write_tree(
        &self,
        request: Request<Streaming<v1::WriteTreeRequest>>,
    ) -> Result<Response<v1::WriteTreeResponse>, Status> {
        let call = |guest: crate::guest::Guest, upload| async move {
            guest.files().write_tree(upload).await
        };
        Ok(file::upload(&self.lane, request.into_inner(), write_tree_rules(), call).await?)
    }

    async fn stat(
        &self,
        request: Request<v1::StatRequest>,
    ) -> Result<Response<v1::StatResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        let call = |guest: crate::guest::Guest| async move { guest.files().stat(request).await };
        Ok(file::one(&self.lane, Stat, call).await?)
    }

    async fn read_directory(
        &self,
        request: Request<v1::ReadDirectoryRequest>,
    ) -> Result<Response<Self::ReadDirectoryStream>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().read_directory(request).await };
        Ok(file::many(&self.lane, Directory, call).await?)
    }

    async fn read_file(
        &self,
        request: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        if i64::try_from(request.offset).is_err() {
            let reason = "files are not that long";
            return Err(Error::from(RequestError::new("offset", request.offset, reason)).into());
        }
        let content = Content { left: request.length.unwrap_or(u64::MAX) };
        let call =
            |guest: crate::guest::Guest| async move { guest.files().read_file(request).await };
        Ok(file::many(&self.lane, content, call).await?)
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MakeDirectoryResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        permissions("permissions", request.permissions).map_err(Error::from)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().make_directory(request).await };
        Ok(file::one(&self.lane, Empty, call).await?)
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        let call = |guest: crate::guest::Guest| async move { guest.files().remove(request).await };
        Ok(file::one(&self.lane, Empty, call).await?)
    }

    async fn rename(
        &self,
        request: Request<v1::RenameRequest>,
    ) -> Result<Response<v1::RenameResponse>, Status> {
        let request = request.into_inner();
        guest_path("from", &request.from).map_err(Error::from)?;
        guest_path("to", &request.to).map_err(Error::from)?;
        let call = |guest: crate::guest::Guest| async move { guest.files().rename(request).await };
        Ok(file::one(&self.lane, Empty, call).await?)
    }

    async fn change_mode(
        &self,
        request: Request<v1::ChangeModeRequest>,
    ) -> Result<Response<v1::ChangeModeResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        permissions("permissions", Some(request.permissions)).map_err(Error::from)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().change_mode(request).await };
        Ok(file::one(&self.lane, Empty, call).await?)
    }

    async fn make_symlink(
        &self,
        request: Request<v1::MakeSymlinkRequest>,
    ) -> Result<Response<v1::MakeSymlinkResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        link_target("target", &request.target).map_err(Error::from)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().make_symlink(request).await };
        Ok(file::one(&self.lane, Empty, call).await?)
    }

    async fn read_link(
        &self,
        request: Request<v1::ReadLinkRequest>,
    ) -> Result<Response<v1::ReadLinkResponse>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().read_link(request).await };
        Ok(file::one(&self.lane, Link, call).await?)
    }

    async fn read_tree(
        &self,
        request: Request<v1::ReadTreeRequest>,
    ) -> Result<Response<Self::ReadTreeStream>, Status> {
        let request = request.into_inner();
        path(&request.path)?;
        let call =
            |guest: crate::guest::Guest| async move { guest.files().read_tree(request).await };
        Ok(file::many(&self.lane, TreeRules::default(), call).await?)
    }
}
