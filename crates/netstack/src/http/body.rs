//! Bodies: streamed frame by frame, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::record::{Direction, Record};

/// Why a body ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// How long the guest's body is held back for the upstream's word (RFC 9110, 10.1.1: not for ever).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A body of these bytes.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body on its way through, counted.
pub(super) struct Counted<B> {
    body: B,
    record: Arc<Record>,
    direction: Direction,
    hold: Option<Hold>,
}

/// Ends when the upstream wants the body, or has taken too long to say so.
struct Hold {
    wanted: oneshot::Receiver<()>,
    deadline: Pin<Box<Sleep>>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, record: Arc<Record>, direction: Direction) -> Self {
        Self { body, record, direction, hold: None }
    }

    /// Keeps the body back until it is wanted.
    pub(super) fn held(mut self, wanted: oneshot::Receiver<()>) -> Self {
        self.hold = Some(Hold { wanted, deadline: Box::pin(sleep(CONTINUE_WAIT)) });
        self
    }
}

impl<B> HttpBody for Counted<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(hold) = &mut self.hold {
            let wanted = Pin::new(&mut hold.wanted).poll(context).is_ready();
            if !wanted {
                ready!(hold.deadline.as_mut().poll(context));
            }
            self.hold = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.record.count(self.direction, data.remaining() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps something alive for as long as a body is.
pub(super) struct Holding<B, T> {
    pub(super) body: B,
    pub(super) kept: Option<T>,
}

impl<B, T> HttpBody for Holding<B, T>
where
    B: HttpBody + Unpin,
    T: Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.kept = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
