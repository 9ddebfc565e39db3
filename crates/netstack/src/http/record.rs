//! The record of a request while it is under way. It is told when the last one lets go of it.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::Method;

use super::event::{Event, Observer, Refusal, RequestRecord};
use crate::flow::Flow;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    FromGuest,
    ToGuest,
}

#[derive(Debug)]
pub(super) struct Record {
    observer: Observer,
    about: RequestRecord,
    status: AtomicU16,
    sent: AtomicU64,
    received: AtomicU64,
    refused: Mutex<Option<(Refusal, String)>>,
}

impl Record {
    pub(super) fn new(
        observer: Observer,
        flow: &Flow,
        method: &Method,
        host: String,
        path: &str,
    ) -> Self {
        Self {
            observer,
            about: RequestRecord {
                flow: flow.id,
                destination: flow.destination,
                method: method.to_string(),
                host,
                path: path.to_owned(),
                status: 0,
                sent: 0,
                received: 0,
                refusal: None,
                detail: String::new(),
            },
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    pub(super) fn count(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::FromGuest => &self.sent,
            Direction::ToGuest => &self.received,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_status(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    pub(super) fn set_refused(&self, refusal: Refusal, detail: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = Some((refusal, detail.to_owned()));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut about = self.about.clone();
        about.status = *self.status.get_mut();
        about.sent = *self.sent.get_mut();
        about.received = *self.received.get_mut();
        let refused = self.refused.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((refusal, detail)) = refused {
            about.refusal = Some(refusal);
            about.detail = detail;
        }
        self.observer.tell(Event::Request(about));
    }
}
