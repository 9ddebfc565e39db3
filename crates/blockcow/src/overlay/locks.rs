//! Turns for changing blocks: those that overlap come one after the other, in the order in which
//! they were asked for; all others side by side.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order of asking.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    range: Range<u64>,
    /// There while it waits.
    waiting: Option<oneshot::Sender<()>>,
}

/// A turn, or a place in the queue. Over when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    id: u64,
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl Turns {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other turn overlaps with these blocks.
    pub(crate) async fn take(&self, range: Range<u64>) -> Turn<'_> {
        let (turn, waiting) = {
            let mut queue = self.queue();
            let id = queue.next;
            queue.next += 1;
            let free = !queue.entries.iter().any(|entry| overlap(&entry.range, &range));
            let (sender, receiver) = oneshot::channel();
            let (sender, receiver) =
                if free { (None, None) } else { (Some(sender), Some(receiver)) };
            queue.entries.push_back(Entry { id, range, waiting: sender });
            (Turn { turns: self, id }, receiver)
        };
        if let Some(waiting) = waiting {
            // It is sent before the sender is dropped.
            let _ = waiting.await;
        }
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.turns.queue();
        let Some(at) = queue.entries.iter().position(|entry| entry.id == self.id) else { return };
        let Some(ended) = queue.entries.remove(at) else { return };
        for index in at..queue.entries.len() {
            let entry = &queue.entries[index];
            if entry.waiting.is_none() || !overlap(&entry.range, &ended.range) {
                continue;
            }
            if queue.entries.range(..index).any(|before| overlap(&before.range, &entry.range)) {
                continue;
            }
            if let Some(waiting) = queue.entries[index].waiting.take() {
                // A place whose owner has gone is freed by the owner's own drop.
                let _ = waiting.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn overlapping_turns_come_in_the_order_of_asking_and_others_at_once() {
        let turns = Turns::default();
        let first = turns.take(0..10).await;
        let mut second = Box::pin(turns.take(5..15));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(turns.take(12..20));
        assert!((&mut third).now_or_never().is_none(), "it came after the second");
        let other = turns.take(20..30).await;
        drop(first);
        let second = second.await;
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop((third.await, other));
        assert!(turns.queue().entries.is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_lets_the_next_in() {
        let turns = Turns::default();
        let first = turns.take(0..10).await;
        let mut second = Box::pin(turns.take(0..20));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(turns.take(15..20));
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(third.await);
        drop(first);
        assert!(turns.queue().entries.is_empty());
    }
}
