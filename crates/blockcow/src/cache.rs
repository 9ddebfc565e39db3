//! A cache with a budget in bytes, in which concurrent wishes for one entry are one fetch.
//!
//! Eviction is `quick_cache`'s, which keeps what was asked for more than once before what passed
//! by once: a long sequential read does not push out the hot part of a disk, as strict
//! least-recently-used order would.

use std::hash::Hash;
use std::sync::Arc;

use quick_cache::sync::{Cache as Inner, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// What an entry takes of the budget.
pub(crate) trait Weigh {
    /// Bytes.
    fn weight(&self) -> usize;
}

impl Weigh for Box<[u8]> {
    fn weight(&self) -> usize {
        self.len()
    }
}

#[derive(Clone)]
struct ByWeight;

impl<K, V: Weigh> Weighter<K, Arc<V>> for ByWeight {
    fn weight(&self, _key: &K, value: &Arc<V>) -> u64 {
        // Never 0, which would mean that the entry is pinned.
        value.weight().max(1) as u64
    }
}

pub(crate) struct Cache<K, V> {
    inner: Inner<K, Arc<V>, ByWeight>,
}

impl<K: Hash + Eq + Clone, V: Weigh> Cache<K, V> {
    /// A cache for `budget` bytes of entries that have about `usual` bytes each.
    pub(crate) fn new(budget: u64, usual: u64) -> Self {
        let entries = usize::try_from((budget / usual.max(1)).clamp(8, 1024)).unwrap_or(8);
        let options = OptionsBuilder::new()
            // One shard: an entry must fit into a shard's budget, and large clusters would not.
            .shards(1)
            .estimated_items_capacity(entries)
            .weight_capacity(budget)
            .build()
            .expect("both required options are given");
        let inner = Inner::with_options(
            options,
            ByWeight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self { inner }
    }

    /// The entry, if it is there.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.inner.get(key)
    }

    /// The entry; fetched if it is not there, and waited for if somebody else is fetching it. A
    /// failed or abandoned fetch lets the next in line try.
    pub(crate) async fn get_or_fetch<E>(
        &self,
        key: &K,
        fetch: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        self.inner.get_or_insert_async(key, async { fetch.await.map(Arc::new) }).await
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.inner.weight()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn block(size: usize) -> Box<[u8]> {
        vec![0; size].into_boxed_slice()
    }

    #[tokio::test]
    async fn concurrent_wishes_for_one_entry_are_one_fetch() {
        let cache = Cache::<u64, Box<[u8]>>::new(1 << 20, 1 << 10);
        let fetches = AtomicUsize::new(0);
        let wish = || {
            cache.get_or_fetch(&7, async {
                fetches.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(block(1 << 10))
            })
        };
        let all = futures::future::join_all((0..50).map(|_| wish())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_fetch_lets_the_next_try() {
        let cache = Cache::<u64, Box<[u8]>>::new(1 << 20, 1 << 10);
        let first = cache.get_or_fetch(&1, async {
            tokio::task::yield_now().await;
            Err("no")
        });
        let second = cache.get_or_fetch(&1, async { Ok::<_, &str>(block(3)) });
        let (first, second) = futures::join!(first, second);
        assert_eq!(first, Err("no"));
        assert_eq!(second.map(|entry| entry.len()), Ok(3));
    }

    #[tokio::test]
    async fn the_budget_is_kept_and_large_entries_fit() {
        let cache = Cache::<u64, Box<[u8]>>::new(16 << 20, 2 << 20);
        for key in 0..64 {
            let fetched = cache.get_or_fetch(&key, async { Ok::<_, ()>(block(2 << 20)) }).await;
            assert!(fetched.is_ok());
            assert!(cache.weight() <= 16 << 20);
        }
        assert!(cache.weight() >= 8 << 20, "only {} are used", cache.weight());
    }
}
