//! A guest's connection with HTTP on it, until it ends.

use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::event::{Event, Refusal};
use super::exchange::{Session, Tunnel, handle};
use super::guard::Guarded;
use super::head::MOST_HEADERS;
use super::middleware::Protocol;
use super::record::Direction;
use super::tunnel::{self, Meter};
use super::upstream::{AnyStream, CONNECTION_WINDOW, STREAM_WINDOW};

/// How long what is under way may take to end, once no more requests are taken.
const PARTING: Duration = Duration::from_secs(10);
/// A guest is asked whether it lives after so long without a word.
const PING_AFTER: Duration = Duration::from_secs(60);
/// Bytes of a response that wait for the guest.
const SEND_BUFFER: usize = 256 << 10;

/// Serves the connection to its end.
pub(super) async fn serve(session: Arc<Session>, guest: AnyStream) {
    let result = match session.route.protocol {
        Protocol::Http1 => serve_http1(&session, guest).await,
        Protocol::Http2 => serve_http2(&session, guest).await,
    };
    let limits = session.http.options.limits;
    if let Some(wrong) = session.watch.wrong() {
        session.http.options.observer.tell(Event::Refused {
            flow: session.flow.id,
            destination: session.flow.destination,
            name: session.server.as_ref().map(super::binding::Server::subject),
            refusal: Refusal::Malformed,
            detail: wrong.to_string(),
        });
    } else if let Err(error) = result {
        tracing::debug!(%error, flow = session.flow.id.0, "a connection of the guest ended early");
    }
    let tunnel = session.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        relay(tunnel).await;
        return;
    }
    if let Some(connection) = session.upstream.lock().await.take() {
        let key = session.route.key.clone();
        session.http.pool.give(key, connection, limits.pooled, limits.pooled_idle);
    }
}

async fn serve_http1(session: &Arc<Session>, guest: AnyStream) -> hyper::Result<()> {
    let limits = session.http.options.limits;
    let longest = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);
    let guest = Guarded::new(guest, longest, limits.head_deadline, session.watch.clone());
    let service = service_fn(|request| {
        let session = Arc::clone(session);
        async move { handle(&session, request).await }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MOST_HEADERS)
        .max_buf_size(longest.max(8 << 10) + (64 << 10));
    let connection = builder.serve_connection(TokioIo::new(guest), service).with_upgrades();
    drive(session, connection, |connection| connection.graceful_shutdown()).await
}

async fn serve_http2(session: &Arc<Session>, guest: AnyStream) -> hyper::Result<()> {
    let limits = session.http.options.limits;
    let service = service_fn(|request| {
        let session = Arc::clone(session);
        async move { handle(&session, request).await }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_AFTER);
    let connection = builder.serve_connection(TokioIo::new(guest), service);
    drive(session, connection, |connection| connection.graceful_shutdown()).await
}

/// Lets a connection run until it ends, or has had no request for too long.
async fn drive<C>(session: &Session, connection: C, part: impl Fn(Pin<&mut C>)) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let idle = session.http.options.limits.idle;
    tokio::select! {
        result = connection.as_mut() => return result,
        () = session.activity.idle(idle) => part(connection.as_mut()),
    }
    timeout(PARTING, connection).await.unwrap_or(Ok(()))
}

/// What comes after an upgrade.
async fn relay(tunnel: Tunnel) {
    let Tunnel { guest, upstream, record, connection } = tunnel;
    let meter = Meter::default();
    let joined = async {
        let (guest, upstream) = tokio::try_join!(guest, upstream).map_err(std::io::Error::other)?;
        tunnel::join(&mut TokioIo::new(guest), &mut TokioIo::new(upstream), &meter).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "an upgraded connection ended early");
    }
    record.count(Direction::FromGuest, meter.sent());
    record.count(Direction::ToGuest, meter.received());
    drop(connection);
}
