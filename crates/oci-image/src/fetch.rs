//! Bodies that end, waits that end, and attempts that are counted.

use std::future::Future;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Patience;

/// A small answer, and its media type.
pub(crate) type Answer = Result<(Vec<u8>, Option<String>)>;

/// The whole body, as long as it keeps within the limit.
pub(crate) async fn body(what: &str, mut response: Response, limit: u64) -> Answer {
    let too_large = || Error::TooLarge { what: what.to_owned(), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type =
        media_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&url, error))? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, media_type))
}

/// End with [`Error::Deadline`] after `limit`.
pub(crate) async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::Deadline { what: what.to_owned(), seconds: limit.as_secs() })
    })
}

/// Try until it works, or fails in a way that will not change, or has been tried often enough.
pub(crate) async fn retried<T, F: Future<Output = Result<T>>>(
    patience: &Patience,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let mut pause = patience.pause;
    for _ in 1..patience.attempts {
        match attempt().await {
            Err(error) if may_pass(&error) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

/// Whether the same request may fare better in a while.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        // A redirection that is refused is refused again.
        Error::Request { source, .. } => !source.is_redirect() && !source.is_builder(),
        Error::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        Error::Deadline { .. } => true,
        _ => false,
    }
}

pub(crate) fn same_digest(what: &str, expected: &Digest, found: &Digest) -> Result<()> {
    if expected != found {
        return Err(Error::Digest { what: what.to_owned(), expected: *expected, found: *found });
    }
    Ok(())
}

/// Queries have signatures in them that let anybody in.
pub(crate) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

pub(crate) fn failed(url: &Url, error: reqwest::Error) -> Error {
    Error::Request { url: without_query(url), source: error.without_url() }
}
