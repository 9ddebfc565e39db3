//! One HTTP/2 connection with the three services of `lanebox.guest.v1` on it.
//!
//! hyper serves the connection directly: tonic's own server needs its router and listener, and
//! there is no second connection. Every call is a task of its own, so a
//! panic in one resets that call and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::guest::v1::file_service_server::{self, FileService, FileServiceServer};
use protocol::guest::v1::guest_service_server::{GuestService, GuestServiceServer, SERVICE_NAME};
use protocol::guest::v1::process_service_server::{self, ProcessService, ProcessServiceServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::limits::{
    CONNECTION_WINDOW, MAX_FRAME, MAX_HEADERS, MAX_REQUEST, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW,
};

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Serves `stream` until the host closes it or breaks HTTP/2.
pub(crate) async fn serve<S, G, P, F>(
    stream: S,
    guest: G,
    processes: P,
    files: F,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: GuestService,
    P: ProcessService,
    F: FileService,
{
    let guest = GuestServiceServer::new(guest).max_decoding_message_size(MAX_REQUEST);
    let processes = ProcessServiceServer::new(processes).max_decoding_message_size(MAX_REQUEST);
    let files = FileServiceServer::new(files).max_decoding_message_size(MAX_REQUEST);
    let service = service_fn(move |request: Request<Incoming>| -> Answer {
        match service_of(request.uri().path()) {
            SERVICE_NAME => Box::pin(guest.clone().call(request)),
            process_service_server::SERVICE_NAME => Box::pin(processes.clone().call(request)),
            file_service_server::SERVICE_NAME => Box::pin(files.clone().call(request)),
            _ => Box::pin(async {
                Ok(Status::new(Code::Unimplemented, "No such service").into_http())
            }),
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        // Guards against hostile clients, which the host is not: a caller that drops many calls at
        // once, or processes that end while their input is still on its way, must not look like an
        // attack and end the connection.
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_local_error_reset_streams(None)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// The service in a path such as "/package.Service/Method".
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_without_a_method_names_no_service() {
        assert_eq!(service_of("/lanebox.guest.v1.GuestService/Configure"), SERVICE_NAME);
        assert_eq!(service_of("/lanebox.guest.v1.GuestService"), "");
        assert_eq!(service_of("lanebox.guest.v1.GuestService/Configure"), "");
        assert_eq!(service_of(""), "");
    }
}
