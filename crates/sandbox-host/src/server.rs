//! Serves the client's connection, and the debug socket beside it, until the client leaves or the
//! process is told to end. Then the lane is ended before anything else.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use protocol::v1::block_store_service_server::BlockStoreServiceServer;
use protocol::v1::file_service_server::FileServiceServer;
use protocol::v1::filesystem_service_server::FilesystemServiceServer;
use protocol::v1::image_service_server::ImageServiceServer;
use protocol::v1::network_service_server::NetworkServiceServer;
use protocol::v1::process_service_server::ProcessServiceServer;
use protocol::v1::sandbox_service_server::SandboxServiceServer;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::debug::DebugSocket;
use crate::granted::Granted;
use crate::lane::{Engine, Lane};
use crate::limits::{
    BLOCK_STORE_MESSAGE_BYTES, CLIENT_CONNECTION_WINDOW, CLIENT_HEADER_BYTES, CLIENT_MESSAGE_BYTES,
    CLIENT_STREAM_WINDOW, CLIENT_STREAMS, FILESYSTEM_MESSAGE_BYTES, LANE_END,
};
use crate::refusals;
use crate::service::{
    Access, BlockStores, Files, Filesystems, Images, Networks, Processes, Sandbox,
};
use crate::watched::Watched;

/// Why serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The client closed its connection.
    ClientLeft,
    /// The process was told to end.
    Told,
}

/// Why serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A task that lives as long as the process has ended.
    #[error("{0} ended unexpectedly")]
    Defect(&'static str),
    /// Reflection cannot be served.
    #[error("The descriptors for reflection are malformed")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// Serves one VM to the client at the other end of `connection`, until it leaves or `told` is ready.
///
/// # Errors
/// [`ServeError`]; the VM is ended in any case.
pub async fn run(
    connection: UnixStream,
    debug: Option<DebugSocket>,
    engine: Arc<dyn Engine>,
    granted: Arc<Granted>,
    told: impl Future<Output = ()>,
) -> Result<Finish, ServeError> {
    let terminate = CancellationToken::new();
    let _end_everything = terminate.clone().drop_guard();
    let refusals = granted.take_refusals();
    let (lane, mut task) = Lane::spawn(engine, granted, terminate.clone());
    if let Some(refusals) = refusals {
        tokio::spawn(refusals::tell(refusals, lane.journal().clone()));
    }

    let (connection, signs) = Watched::new(connection, ());
    // The stream of connections never ends: with its end the server would stop at once.
    let incoming = stream::iter([Ok::<_, io::Error>(connection)]).chain(stream::pending());
    let owner = serve(routes(&lane, Access::Owner), incoming, terminate.clone());
    let mut owner = tokio::spawn(owner);
    if let Some(debug) = debug {
        let router = with_reflection(routes(&lane, Access::Debug))?;
        tokio::spawn(serve(router, debug.into_incoming(), terminate.clone()));
    }

    let finish = tokio::select! {
        biased;
        () = signs.closed.cancelled() => Ok(Finish::ClientLeft),
        () = told => Ok(Finish::Told),
        _ = &mut task => return Err(ServeError::Defect("The lane's task")),
        _ = &mut owner => Err(ServeError::Defect("The server on file descriptor 3")),
    };
    terminate.cancel();
    if timeout(LANE_END, task).await.is_err() {
        tracing::error!("the lane did not end in time");
    }
    owner.abort();
    finish
}

fn routes(lane: &Lane, access: Access) -> Router {
    let sandbox = SandboxServiceServer::new(Sandbox::new(lane.clone(), access))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let processes = ProcessServiceServer::new(Processes::new(lane.clone()))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let filesystems = (access == Access::Owner).then(|| {
        FilesystemServiceServer::new(Filesystems::new(lane.clone()))
            .max_decoding_message_size(FILESYSTEM_MESSAGE_BYTES)
    });
    let files = FileServiceServer::new(Files::new(lane.clone()))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let stores = (access == Access::Owner).then(|| {
        BlockStoreServiceServer::new(BlockStores::new(lane.clone()))
            .max_decoding_message_size(BLOCK_STORE_MESSAGE_BYTES)
    });
    let networks = (access == Access::Owner).then(|| {
        NetworkServiceServer::new(Networks::new(lane.clone()))
            .max_decoding_message_size(CLIENT_MESSAGE_BYTES)
    });
    let images = (access == Access::Owner).then(|| {
        ImageServiceServer::new(Images::new(lane.clone()))
            .max_decoding_message_size(CLIENT_MESSAGE_BYTES)
    });
    Server::builder()
        .initial_stream_window_size(CLIENT_STREAM_WINDOW)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
        .max_concurrent_streams(CLIENT_STREAMS)
        .http2_max_header_list_size(CLIENT_HEADER_BYTES)
        .http2_keepalive_interval(None)
        .add_service(sandbox)
        .add_service(processes)
        .add_optional_service(filesystems)
        .add_service(files)
        .add_optional_service(stores)
        .add_optional_service(images)
        .add_optional_service(networks)
}

fn with_reflection(router: Router) -> Result<Router, ServeError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(protocol::FILE_DESCRIPTOR_SET)
            .with_service_name("lanebox.v1.SandboxService")
            .with_service_name("lanebox.v1.ProcessService")
            .with_service_name("lanebox.v1.FileService")
    };
    Ok(router
        .add_service(builder().build_v1().map_err(ServeError::Reflection)?)
        .add_service(builder().build_v1alpha().map_err(ServeError::Reflection)?))
}

async fn serve<K: Send + Unpin + 'static>(
    router: Router,
    incoming: impl Stream<Item = io::Result<Watched<UnixStream, K>>>,
    until: CancellationToken,
) {
    let served = router.serve_with_incoming_shutdown(incoming, until.cancelled()).await;
    if let Err(error) = served {
        tracing::error!(%error, "a server failed");
    }
}
