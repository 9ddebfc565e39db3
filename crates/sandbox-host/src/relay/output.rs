//! What the guest answers, on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use protocol::v1::run_response::Response;
use protocol::v1::{RunRequest, RunResponse, StartProcess};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::input::{self, Input};
use crate::error::Error;
use crate::guest::{GuestError, RunStream};
use crate::lane::{Journal, Lane, ProcessCounted, RunPermit};
use crate::limits::{CHANNEL_LOST, ENGINE_GONE, LANE_END, PROCESS_START, PROCESS_TIMEOUT_MARGIN};

/// The answers to a client.
pub type Output = Pin<Box<dyn Stream<Item = Result<RunResponse, Status>> + Send>>;

/// Starts a process. Returns once it runs, with `started` as the first answer.
///
/// # Errors
/// [`Error`] when it does not start.
pub async fn start(lane: &Lane, mut requests: Streaming<RunRequest>) -> Result<Output, Error> {
    let permit = lane.permit_run()?;
    let start = input::first(&mut requests).await?;
    let guest = lane.guest().await?;
    let time_limit = time_limit(&start);
    let (refuse, refused) = oneshot::channel();
    let over = CancellationToken::new();
    let end_input = over.clone().drop_guard();
    let input = Input::new(start, requests, refuse, over);
    let journal = lane.journal().clone();

    let begin = async {
        let mut answers = guest.run(input).await?;
        let first = answers.next().await?;
        Ok::<_, GuestError>((answers, first))
    };
    let (answers, first) = match timeout(PROCESS_START, begin).await {
        Ok(Ok((answers, Some(first)))) => (answers, first),
        Ok(Ok((_, None))) => return Err(Error::Defect("Run without an answer")),
        Ok(Err(error)) => return Err(explain(&journal, error).await),
        Err(_) => {
            let what = "start the process";
            return Err(GuestError::Deadline { what, after: PROCESS_START }.into());
        }
    };
    let relay = Relay {
        answers,
        refused: Some(refused),
        first: Some(first),
        counted: Some(journal.count_process()),
        journal,
        time_limit,
        last_heard: Instant::now(),
        _end_input: end_input,
        _permit: permit,
    };
    Ok(Box::pin(stream::unfold(Some(relay), step)))
}

/// When the guest must have told of the end, if the process has a time limit. The guest enforces
/// the limit; this is for a guest that does not.
fn time_limit(start: &StartProcess) -> Option<Instant> {
    let limit = Duration::from_millis(start.timeout_ms);
    let grace = Duration::from_secs(1) + PROCESS_TIMEOUT_MARGIN;
    match start.timeout_ms {
        0 => None,
        _ => Instant::now().checked_add(limit)?.checked_add(grace),
    }
}

struct Relay {
    answers: RunStream,
    refused: Option<oneshot::Receiver<Error>>,
    first: Option<Response>,
    counted: Option<ProcessCounted>,
    journal: Arc<Journal>,
    time_limit: Option<Instant>,
    last_heard: Instant,
    _end_input: DropGuard,
    _permit: RunPermit,
}

/// The next item for the client, and the relay if there is more.
async fn step(relay: Option<Relay>) -> Option<(Result<RunResponse, Status>, Option<Relay>)> {
    let mut relay = relay?;
    match relay.next().await {
        Ok(Some(response)) => Some((Ok(RunResponse { response: Some(response) }), Some(relay))),
        Ok(None) => None,
        Err(error) => Some((Err(error.into()), None)),
    }
}

impl Relay {
    async fn next(&mut self) -> Result<Option<Response>, Error> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let answer = tokio::select! {
            biased;
            answer = self.answers.next() => answer,
            error = refused(&mut self.refused) => return Err(error),
            // The end of the VM is told when everything that came before was readable.
            ended = self.journal.wait_ended() => return Err(Error::Ended(ended)),
            error = late(self.time_limit, self.last_heard) => return Err(error),
        };
        self.last_heard = Instant::now();
        match answer {
            Ok(Some(response)) => {
                if matches!(response, Response::Exited(_)) {
                    self.counted = None;
                    self.time_limit = None;
                }
                Ok(Some(response))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(explain(&self.journal, error).await),
        }
    }
}

/// The error in what the client sent, if there is one.
async fn refused(channel: &mut Option<oneshot::Receiver<Error>>) -> Error {
    if let Some(receiver) = channel {
        if let Ok(error) = receiver.await {
            return error;
        }
        // The input ended in good order.
        *channel = None;
    }
    std::future::pending().await
}

/// The error of a guest that lets a time limit pass. A client that does not read is no guest that
/// does not send: the margin begins again with each message.
async fn late(limit: Option<Instant>, last_heard: Instant) -> Error {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    sleep_until(limit.max(last_heard + PROCESS_TIMEOUT_MARGIN)).await;
    GuestError::Deadline {
        what: "end the process after its timeout",
        after: PROCESS_TIMEOUT_MARGIN,
    }
    .into()
}

/// What a failed call to the guest means. A lost connection is the end of the VM, of which the lane soon knows the reason.
pub async fn explain(journal: &Journal, error: GuestError) -> Error {
    if !matches!(error, GuestError::Lost) {
        return error.into();
    }
    let soon = CHANNEL_LOST + ENGINE_GONE + LANE_END;
    match timeout(soon, journal.wait_ended()).await {
        Ok(ended) => Error::Ended(ended),
        Err(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{advance, pause};

    use super::*;

    fn limit_of(timeout_ms: u64) -> Option<Instant> {
        time_limit(&StartProcess { timeout_ms, ..StartProcess::default() })
    }

    #[tokio::test]
    async fn guest_that_ignores_a_timeout_is_found_out_after_the_margin() {
        pause();
        let begun = Instant::now();
        let late = late(limit_of(5000), begun);
        tokio::pin!(late);
        advance(Duration::from_secs(6) + PROCESS_TIMEOUT_MARGIN - Duration::from_millis(1)).await;
        assert!((&mut late).now_or_never().is_none());
        advance(Duration::from_millis(2)).await;
        assert!(matches!(late.await, Error::Guest(GuestError::Deadline { .. })));
    }

    #[tokio::test]
    async fn guest_that_still_sends_gets_the_margin_again() {
        pause();
        let limit = limit_of(1);
        advance(Duration::from_secs(3600)).await;
        let late = late(limit, Instant::now());
        tokio::pin!(late);
        advance(PROCESS_TIMEOUT_MARGIN / 2).await;
        assert!((&mut late).now_or_never().is_none());
    }

    #[tokio::test]
    async fn process_without_a_timeout_has_no_limit() {
        assert_eq!(limit_of(0), None);
        assert!(late(limit_of(u64::MAX), Instant::now()).now_or_never().is_none());
        assert!(late(None, Instant::now()).now_or_never().is_none());
    }
}
