//! A call about files, passed to the guest and its answers back, each of them checked.
//!
//! As with `Run` nothing is buffered. A guest that does not answer while it could is given up after
//! [`FILE_SILENCE`]; a client that does not read, or does not write, is waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Response, Status, Streaming};

use super::explain;
use crate::error::Error;
use crate::guest::{Check, Guest, GuestError};
use crate::lane::{FilePermit, Journal, Lane};
use crate::limits::FILE_SILENCE;

/// The answers to a client.
pub type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

const SILENT: GuestError =
    GuestError::Deadline { what: "answer about its files", after: FILE_SILENCE };

/// One answer.
///
/// # Errors
/// [`Error`] of the guest, or of a lane that does not run.
pub async fn one<R, F: Future<Output = Result<Response<R>, Status>>>(
    lane: &Lane,
    mut check: impl Check<R>,
    call: impl FnOnce(Guest) -> F,
) -> Result<Response<R>, Error> {
    let _permit = lane.permit_file()?;
    let guest = lane.guest().await?;
    let answer = answered(lane.journal(), &guest, call(guest.clone())).await?;
    check.check(answer.get_ref()).map_err(GuestError::Protocol)?;
    Ok(answer)
}

/// Many answers.
///
/// # Errors
/// [`Error`] when the first of them is one.
pub async fn many<R: Send + 'static, F>(
    lane: &Lane,
    check: impl Check<R> + 'static,
    call: impl FnOnce(Guest) -> F,
) -> Result<Response<Answers<R>>, Error>
where
    F: Future<Output = Result<Response<Streaming<R>>, Status>>,
{
    let permit = lane.permit_file()?;
    let guest = lane.guest().await?;
    let answers = answered(lane.journal(), &guest, call(guest.clone())).await?.into_inner();
    let journal = lane.journal().clone();
    let many = Many { answers, check: Box::new(check), guest, journal, _permit: permit };
    let answers = stream::unfold(Some(many), |many| async {
        let mut many = many?;
        match many.next().await {
            Ok(answer) => answer.map(|answer| (Ok(answer), Some(many))),
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    Ok(Response::new(Box::pin(answers)))
}

/// Waits for a call to be answered.
async fn answered<T>(
    journal: &Arc<Journal>,
    guest: &Guest,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        answer = timeout(FILE_SILENCE, call) => match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(explain(journal, guest.read_file_error(status).await).await),
            Err(_) => Err(SILENT.into()),
        },
        ended = journal.wait_ended() => Err(Error::Ended(ended)),
    }
}

struct Many<R> {
    answers: Streaming<R>,
    check: Box<dyn Check<R>>,
    guest: Guest,
    journal: Arc<Journal>,
    _permit: FilePermit,
}

impl<R> Many<R> {
    async fn next(&mut self) -> Result<Option<R>, Error> {
        let answer = answered(&self.journal, &self.guest, self.answers.message()).await?;
        if let Some(answer) = &answer {
            self.check.check(answer).map_err(GuestError::Protocol)?;
        }
        Ok(answer)
    }
}

/// Many requests, one answer. `check` refuses what the client must not send.
///
/// # Errors
/// [`Error`] of the client, of the guest, or of a lane that does not run.
pub async fn upload<Q: Send + 'static, R, F>(
    lane: &Lane,
    requests: Streaming<Q>,
    check: impl FnMut(&Q) -> Result<(), Error> + Send + 'static,
    call: impl FnOnce(Guest, Upload<Q>) -> F,
) -> Result<Response<R>, Error>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let _permit = lane.permit_file()?;
    let guest = lane.guest().await?;
    let journal = lane.journal();
    let (refuse, refused) = oneshot::channel();
    let turn = Arc::new(Mutex::new(Turn::Guest(Instant::now())));
    let upload =
        Upload { requests, check: Box::new(check), refuse: Some(refuse), turn: turn.clone() };
    let call = call(guest.clone(), upload);
    tokio::select! {
        biased;
        answer = call => match answer {
            Ok(answer) => Ok(answer),
            Err(status) => Err(explain(journal, guest.read_file_error(status).await).await),
        },
        Ok(error) = refused => Err(error),
        ended = journal.wait_ended() => Err(Error::Ended(ended)),
        () = silence(&turn) => Err(SILENT.into()),
    }
}

/// Who is waited for.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Client,
    /// Since then.
    Guest(Instant),
}

/// Returns when it has been the guest's turn for too long.
async fn silence(turn: &Mutex<Turn>) {
    loop {
        let now = Instant::now();
        let until = match *turn.lock().unwrap_or_else(PoisonError::into_inner) {
            Turn::Client => now + FILE_SILENCE,
            Turn::Guest(since) if since + FILE_SILENCE <= now => return,
            Turn::Guest(since) => since + FILE_SILENCE,
        };
        sleep_until(until).await;
    }
}

/// A check of what a client sends.
type Checking<Q> = Box<dyn FnMut(&Q) -> Result<(), Error> + Send>;

/// What a client uploads, on its way to the guest. It ends only when the client has ended it: a client
/// that has failed leaves it open, for the call to be dropped.
pub struct Upload<Q> {
    requests: Streaming<Q>,
    check: Checking<Q>,
    refuse: Option<oneshot::Sender<Error>>,
    turn: Arc<Mutex<Turn>>,
}

impl<Q> Stream for Upload<Q> {
    type Item = Q;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Q>> {
        if self.refuse.is_none() {
            return Poll::Pending;
        }
        let polled = self.requests.poll_next_unpin(cx);
        let turn = if polled.is_pending() { Turn::Client } else { Turn::Guest(Instant::now()) };
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        let error = match std::task::ready!(polled) {
            None => return Poll::Ready(None),
            Some(Ok(message)) => match (self.check)(&message) {
                Ok(()) => return Poll::Ready(Some(message)),
                Err(error) => error,
            },
            Some(Err(status)) => {
                tracing::debug!(%status, "the client's side of an upload failed");
                Error::Sequence("What came is no message of this call")
            }
        };
        if let Some(refuse) = self.refuse.take() {
            let _ = refuse.send(error);
        }
        Poll::Pending
    }
}
