//! What every store must do, as a suite that a store's tests call.
//!
//! ```ignore
//! #[tokio::test]
//! async fn it_is_a_store() {
//!     blockcow::conformance::check(|| async { Arc::new(MyStore::new()) as _ }).await;
//! }
//! ```

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "these are tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    reason = "small numbers; one run of blocks"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;

use crate::store::answer;
use crate::{BlockChunk, BlockStore, StoreContext};

/// Runs all checks, each on an empty store of its own.
pub async fn check<F: Future<Output = Arc<dyn BlockStore>>>(mut empty: impl FnMut() -> F) {
    let subject = |store| Subject { store, context: context() };
    an_empty_store_lists_nothing(subject(empty().await)).await;
    what_is_written_is_listed_and_read(subject(empty().await)).await;
    the_last_write_counts(subject(empty().await)).await;
    chunks_of_many_blocks_in_any_order(subject(empty().await)).await;
    zeros_are_present(subject(empty().await)).await;
    what_is_discarded_is_absent(subject(empty().await)).await;
    calls_side_by_side(subject(empty().await)).await;
    blocks_far_apart(subject(empty().await)).await;
    it_behaves_like_a_map(subject(empty().await)).await;
}

/// For whom the stores of these checks work.
pub fn context() -> StoreContext {
    StoreContext { base: Arc::from("sha256:test"), generation: 1 }
}

struct Subject {
    store: Arc<dyn BlockStore>,
    context: StoreContext,
}

impl Subject {
    fn block(&self) -> usize {
        self.store.block_size() as usize
    }

    /// A block whose every byte tells the number.
    fn content(&self, number: u8) -> Vec<u8> {
        vec![number; self.block()]
    }

    async fn list(&self) -> BTreeSet<u64> {
        let mut listing = self.store.list(&self.context);
        let mut all = BTreeSet::new();
        while let Some(runs) = listing.next().await {
            for block in runs.unwrap().into_iter().flatten() {
                assert!(all.insert(block), "block {block} is listed twice");
            }
        }
        all
    }

    async fn read(&self, range: Range<u64>) -> Vec<Bytes> {
        let chunks = self.store.read(range.clone(), &self.context).await.unwrap();
        answer::blocks(chunks, &range, self.block()).unwrap()
    }

    async fn write(&self, chunks: &[(u64, Vec<u8>)]) {
        let chunks = chunks
            .iter()
            .map(|(start, data)| BlockChunk { start: *start, data: Bytes::from(data.clone()) });
        self.store.write(chunks.collect(), &self.context).await.unwrap();
    }

    async fn flush(&self) {
        self.store.flush(&self.context).await.unwrap();
    }
}

async fn an_empty_store_lists_nothing(subject: Subject) {
    assert!(subject.list().await.is_empty());
    subject.flush().await;
    assert!(subject.list().await.is_empty());
    let size = subject.block();
    assert!(size > 0 && size.is_multiple_of(512) && size <= 4 << 20);
}

async fn what_is_written_is_listed_and_read(subject: Subject) {
    subject.write(&[(0, subject.content(1)), (7, subject.content(2))]).await;
    assert_eq!(subject.list().await, BTreeSet::from([0, 7]));
    assert_eq!(subject.read(0..1).await, [subject.content(1)]);
    subject.flush().await;
    assert_eq!(subject.read(7..8).await, [subject.content(2)]);
    assert_eq!(subject.list().await, BTreeSet::from([0, 7]));
}

async fn the_last_write_counts(subject: Subject) {
    for number in 1..20 {
        subject.write(&[(3, subject.content(number))]).await;
        if number % 4 == 0 {
            subject.flush().await;
        }
        assert_eq!(subject.read(3..4).await, [subject.content(number)]);
    }
    assert_eq!(subject.list().await, BTreeSet::from([3]));
}

async fn chunks_of_many_blocks_in_any_order(subject: Subject) {
    let three = [subject.content(1), subject.content(2), subject.content(3)].concat();
    subject.write(&[(10, three), (8, subject.content(4)), (9, subject.content(5))]).await;
    let expected = [4, 5, 1, 2, 3].map(|number| subject.content(number));
    assert_eq!(subject.read(8..13).await, expected);
    assert_eq!(subject.read(9..12).await, expected[1..4]);
}

async fn zeros_are_present(subject: Subject) {
    subject.write(&[(1, subject.content(1)), (2, subject.content(2))]).await;
    subject.store.write_zeroes(vec![2..4, 6..7], &subject.context).await.unwrap();
    assert_eq!(subject.list().await, BTreeSet::from([1, 2, 3, 6]));
    assert_eq!(subject.read(1..4).await, [1, 0, 0].map(|number| subject.content(number)));
    subject.write(&[(3, subject.content(3))]).await;
    subject.flush().await;
    assert_eq!(subject.read(1..4).await, [1, 0, 3].map(|number| subject.content(number)));
    assert_eq!(subject.read(6..7).await, [subject.content(0)]);
}

async fn what_is_discarded_is_absent(subject: Subject) {
    if !subject.store.discards() {
        return;
    }
    for number in 0..6 {
        subject.write(&[(number, subject.content(9))]).await;
    }
    subject.store.write_zeroes(vec![4..5], &subject.context).await.unwrap();
    // Some of them are absent already.
    subject.store.discard(vec![1..3, 4..20], &subject.context).await.unwrap();
    assert_eq!(subject.list().await, BTreeSet::from([0, 3]));
    subject.flush().await;
    assert_eq!(subject.read(3..4).await, [subject.content(9)]);
    subject.write(&[(2, subject.content(7))]).await;
    assert_eq!(subject.list().await, BTreeSet::from([0, 2, 3]));
    assert_eq!(subject.read(2..3).await, [subject.content(7)]);
}

async fn calls_side_by_side(subject: Subject) {
    let subject = &subject;
    let write = |number: u8| async move {
        subject.write(&[(u64::from(number), subject.content(number))]).await;
        if number.is_multiple_of(5) {
            subject.flush().await;
        }
        assert_eq!(
            subject.read(u64::from(number)..u64::from(number) + 1).await,
            [subject.content(number)]
        );
    };
    join_all((1..60).map(write)).await;
    assert_eq!(subject.list().await, (1..60).collect());
}

async fn blocks_far_apart(subject: Subject) {
    // The last block of the largest disk.
    let last = crate::limits::MAX_DISK_BYTES / subject.block() as u64 - 1;
    subject.write(&[(last, subject.content(8)), (0, subject.content(1))]).await;
    subject.flush().await;
    assert_eq!(subject.list().await, BTreeSet::from([0, last]));
    assert_eq!(subject.read(last..last + 1).await, [subject.content(8)]);
}

async fn it_behaves_like_a_map(subject: Subject) {
    let mut model = BTreeMap::new();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for step in 0..400u64 {
        let start = next(40);
        let range = start..start + 1 + next(8);
        match next(10) {
            0..6 => {
                let number = u8::try_from(step % 251).unwrap();
                let data = vec![number; subject.block() * (range.end - range.start) as usize];
                subject.write(&[(range.start, data)]).await;
                model.extend(range.map(|block| (block, number)));
            }
            6 => {
                let zeros = vec![range.clone()];
                subject.store.write_zeroes(zeros, &subject.context).await.unwrap();
                model.extend(range.map(|block| (block, 0)));
            }
            7 if subject.store.discards() => {
                let absent = vec![range.clone()];
                subject.store.discard(absent, &subject.context).await.unwrap();
                model.retain(|block, _| !range.contains(block));
            }
            8 => subject.flush().await,
            _ => assert_eq!(subject.list().await, model.keys().copied().collect()),
        }
        for (block, number) in &model {
            if next(8) == 0 {
                assert_eq!(subject.read(*block..block + 1).await, [subject.content(*number)]);
            }
        }
    }
}
