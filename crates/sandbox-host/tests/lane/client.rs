//! The client's side: a helper in a task, and calls to it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use confine::Report;
use futures::{Stream, StreamExt, stream};
use protocol::v1::filesystem_service_client::FilesystemServiceClient;
use protocol::v1::network_service_client::NetworkServiceClient;
use protocol::v1::process_service_client::ProcessServiceClient;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use protocol::v1::{self, RunRequest, RunResponse, StartProcess};
use sandbox_host::debug::DebugSocket;
use sandbox_host::granted::Granted;
use sandbox_host::server::{self, Finish, ServeError};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) use crate::calls::*;
use crate::engine::FakeEngine;
use crate::guest::Script;

/// A helper and the connection to it.
pub(crate) struct Helper {
    pub(crate) sandbox: SandboxServiceClient<Channel>,
    pub(crate) process: ProcessServiceClient<Channel>,
    pub(crate) filesystem: FilesystemServiceClient<Channel>,
    pub(crate) network: NetworkServiceClient<Channel>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) files: Files,
    pub(crate) task: JoinHandle<Result<Finish, ServeError>>,
    pub(crate) tell: Option<oneshot::Sender<()>>,
}

impl Helper {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with_engine(FakeEngine::new(script.player()), None).await
    }

    pub(crate) async fn with_engine(engine: Arc<FakeEngine>, debug: Option<DebugSocket>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = oneshot::channel();
        let told = async {
            if told.await.is_err() {
                std::future::pending().await
            }
        };
        let granted = Arc::new(Granted::everything(Report::off()));
        let task = tokio::spawn(server::run(theirs, debug, engine.clone(), granted, told));
        let channel = channel(ours).await;
        Self {
            sandbox: SandboxServiceClient::new(channel.clone()),
            process: ProcessServiceClient::new(channel.clone()),
            filesystem: FilesystemServiceClient::new(channel.clone()),
            network: NetworkServiceClient::new(channel),
            engine,
            files: Files::new(),
            task,
            tell: Some(tell),
        }
    }

    /// A helper whose machine runs.
    pub(crate) async fn booted(script: Script) -> Self {
        let mut helper = Self::start(script).await;
        soon(helper.sandbox.boot(helper.files.request())).await.unwrap();
        helper
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, start: StartProcess) -> Result<Ran, Status> {
        soon(collect(self.open(stream::iter([first(start)])).await?)).await
    }

    /// Begins a Run.
    pub(crate) async fn open(
        &self,
        requests: impl Stream<Item = RunRequest> + Send + 'static,
    ) -> Result<Streaming<RunResponse>, Status> {
        Ok(soon(self.process.clone().run(requests)).await?.into_inner())
    }

    pub(crate) async fn shutdown(&self, deadline_ms: u32) -> Result<v1::Exited, Status> {
        let request = v1::ShutdownRequest { deadline_ms };
        let answer = soon(self.sandbox.clone().shutdown(request)).await?;
        Ok(answer.into_inner().exited.unwrap())
    }

    pub(crate) async fn status(&self) -> v1::GetStatusResponse {
        let request = v1::GetStatusRequest {};
        soon(self.sandbox.clone().get_status(request)).await.unwrap().into_inner()
    }

    /// Everything that Watch tells until it completes.
    pub(crate) async fn watch_to_the_end(&self) -> Vec<v1::watch_response::Event> {
        let mut sandbox = self.sandbox.clone();
        let events = soon(sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
        soon(events.map(|event| event.unwrap().event.unwrap()).collect()).await
    }
}

/// Files that stand for kernel, initramfs and root image.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kernel", "initramfs"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::write(folder.path().join("root"), vec![7; 64 * 1024]).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A boot of these files, as they are now.
    pub(crate) fn request(&self) -> v1::BootRequest {
        let digest = |name: &str| {
            let hash = Sha256::digest(fs::read(self.path(name)).unwrap());
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{digits}")
        };
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let artifact = |name: &str| v1::Artifact { path: path(name), digest: digest(name) };
        v1::BootRequest {
            minimum_isolation: v1::IsolationKind::Emulated.into(),
            cpus: 1,
            memory_mib: 128,
            kernel: Some(artifact("kernel")),
            initramfs: Some(artifact("initramfs")),
            root: Some(v1::RootDisk {
                path: path("root"),
                format: v1::DiskFormat::Raw.into(),
                digest: digest("root"),
                size_bytes: fs::metadata(self.path("root")).unwrap().len(),
                ..v1::RootDisk::default()
            }),
            hostname: "sandbox".to_owned(),
            ..v1::BootRequest::default()
        }
    }
}
