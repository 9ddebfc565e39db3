//! The store's list, checked.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;

use super::set::BlockSet;
use crate::error::OverlayError;
use crate::store::{AnswerError, BlockStore, StoreContext, StoreError};

/// The blocks that the store has, all of them below `blocks`. Each batch has its deadline.
pub(super) async fn list(
    store: &dyn BlockStore,
    context: &StoreContext,
    blocks: u64,
    deadline: Duration,
) -> Result<BlockSet, OverlayError> {
    let mut present = BlockSet::default();
    let mut listing = store.list(context);
    loop {
        let batch = timeout(deadline, listing.next()).await.map_err(|_| StoreError::TimedOut)?;
        let Some(batch) = batch else { return Ok(present) };
        for run in batch? {
            if run.end > blocks {
                return Err(AnswerError::OutsideDisk(run.start.max(blocks)).into());
            }
            for block in run {
                if !present.insert(block) {
                    return Err(AnswerError::Duplicate(block).into());
                }
            }
        }
    }
}
