//! What happens in a network, on its way into the journal: of each kind no more than so many in a
//! second, and a count of the others. A kind that floods hides no other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use protocol::v1;
use protocol::v1::network_event::Event;
use tokio::runtime::Handle;
use tokio::time::{Duration, Instant, sleep};

use crate::lane::Journal;
use crate::limits::NETWORK_EVENTS;

/// The events that are counted together are of one of these kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Refused,
    Closed,
    Dns,
    Http,
    Callback,
}

const KINDS: usize = 5;
const WINDOW: Duration = Duration::from_secs(1);

impl Kind {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Denied(_) | Event::Failed(_) => Some(Self::Refused),
            Event::Closed(_) => Some(Self::Closed),
            Event::Dns(_) => Some(Self::Dns),
            Event::Http(_) | Event::Refused(_) => Some(Self::Http),
            Event::CallbackFailed(_) => Some(Self::Callback),
            // Told on the first, second, fourth … occasion: few by themselves.
            Event::Dropped(_) => None,
        }
    }

    /// What the others are, for people.
    fn words(self) -> &'static str {
        match self {
            Self::Refused => "flows that were refused or failed",
            Self::Closed => "flows that ended",
            Self::Dns => "questions to the resolver",
            Self::Http => "requests and connections under interception",
            Self::Callback => "failures of the policy's callbacks",
        }
    }
}

/// Tells the journal. Can be called from any thread; does not wait.
pub(super) struct Reporter {
    journal: Arc<Journal>,
    runtime: Handle,
    windows: Mutex<[Window; KINDS]>,
    this: Weak<Self>,
}

#[derive(Clone, Copy)]
struct Window {
    began: Instant,
    told: u32,
    left_out: u64,
}

impl Reporter {
    /// Called inside the runtime that the journal is written in.
    pub(super) fn new(journal: Arc<Journal>) -> Arc<Self> {
        let window = Window { began: Instant::now(), told: 0, left_out: 0 };
        Arc::new_cyclic(|this| Self {
            journal,
            runtime: Handle::current(),
            windows: Mutex::new([window; KINDS]),
            this: this.clone(),
        })
    }

    /// Tells, or counts.
    pub(super) fn tell(&self, event: Event) {
        if let Some(kind) = Kind::of(&event)
            && let Err(first_left_out) = self.room(kind)
        {
            if first_left_out {
                let this = self.this.clone();
                self.runtime.spawn(async move {
                    sleep(WINDOW).await;
                    if let Some(reporter) = this.upgrade() {
                        reporter.tell_count(kind);
                    }
                });
            }
            return;
        }
        if let Event::CallbackFailed(v1::CallbackFailed { message }) = &event {
            tracing::warn!(message, "a callback of the network policy failed");
        }
        self.journal.network_event(v1::NetworkEvent { event: Some(event) });
    }

    /// A callback failed: what it was asked was denied.
    pub(super) fn callback_failed(&self, message: String) {
        self.tell(Event::CallbackFailed(v1::CallbackFailed { message }));
    }

    /// Tells what was left out and is not told yet; the network has ended.
    pub(super) fn flush(&self) {
        use Kind::{Callback, Closed, Dns, Http, Refused};
        for kind in [Refused, Closed, Dns, Http, Callback] {
            self.tell_count(kind);
        }
    }

    /// Room for one more of a kind; if there is none, whether it is the first without.
    fn room(&self, kind: Kind) -> Result<(), bool> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = &mut windows[kind as usize];
        if window.began.elapsed() >= WINDOW {
            (window.began, window.told) = (Instant::now(), 0);
        }
        if window.told < NETWORK_EVENTS {
            window.told += 1;
            return Ok(());
        }
        window.left_out += 1;
        Err(window.left_out == 1)
    }

    fn tell_count(&self, kind: Kind) {
        let left_out = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut windows[kind as usize].left_out)
        };
        if left_out > 0 {
            let words = kind.words();
            self.journal.warn(format!("Network: {left_out} more {words} were not told one by one"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Event as Told, Observation};

    async fn told(journal: &Arc<Journal>, since: &mut crate::lane::Watcher) -> Vec<Told> {
        let mut seen = Vec::new();
        journal.warn("the end".to_owned());
        while let Some((_, Observation::Event(event))) = since.next().await {
            if event == Told::Warning("the end".to_owned()) {
                break;
            }
            seen.push(event);
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_kind_is_counted_and_hides_no_other() {
        let journal = Arc::new(Journal::default());
        let mut watcher = journal.watch();
        let reporter = Reporter::new(Arc::clone(&journal));
        for _ in 0..NETWORK_EVENTS + 7 {
            reporter.tell(Event::Denied(v1::FlowDenied::default()));
        }
        reporter.tell(Event::Http(v1::HttpRecord::default()));
        reporter.tell(Event::Dropped(v1::PacketsDropped::default()));
        sleep(2 * WINDOW).await;
        reporter.tell(Event::Denied(v1::FlowDenied::default()));
        let told = told(&journal, &mut watcher).await;
        let networks = told.iter().filter(|event| matches!(event, Told::Network(_))).count();
        assert_eq!(networks, NETWORK_EVENTS as usize + 3);
        let warnings: Vec<_> = told
            .iter()
            .filter_map(|event| if let Told::Warning(text) = event { Some(text) } else { None })
            .collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("Network: 7 more flows that were refused"), "{warnings:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_is_told_at_the_end_once() {
        let journal = Arc::new(Journal::default());
        let mut watcher = journal.watch();
        let reporter = Reporter::new(Arc::clone(&journal));
        for _ in 0..=NETWORK_EVENTS {
            reporter.tell(Event::Dns(v1::DnsRecord::default()));
        }
        reporter.flush();
        sleep(2 * WINDOW).await;
        let told = told(&journal, &mut watcher).await;
        let warnings = told.iter().filter(|event| matches!(event, Told::Warning(_))).count();
        assert_eq!(warnings, 1, "{told:?}");
    }
}
