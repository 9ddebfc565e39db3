//! The client's block store as one of `blockcow`: each method is a question, and converts.

use std::ops::Range;
use std::sync::Arc;

use blockcow::store::Listing;
use blockcow::{BlockChunk, BlockStore, StoreContext, StoreError};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use protocol::v1;
use protocol::v1::block_store_call::Call;

use super::answer::{Expected, Gathering, Reply};
use super::link::{StoreCall, StoreLink};
use crate::callback::CallbackStream;
use crate::lane::Journal;
use crate::limits::BLOCKS_PER_DISCARD;

/// A store over its stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct StreamStore {
    link: Arc<StoreLink>,
}

impl StreamStore {
    /// Of this stream; what its client does wrong is told the journal.
    #[must_use]
    pub fn new(link: Arc<StoreLink>, journal: Arc<Journal>) -> Self {
        link.exchange.tell_to(move |_, message| journal.warn(format!("Block store: {message}")));
        Self { link }
    }

    async fn ask(
        &self,
        context: &StoreContext,
        call: Call,
        expected: Expected,
        writes: usize,
    ) -> Result<Reply, StoreError> {
        let call =
            StoreCall { base: context.base.to_string(), generation: context.generation, call };
        let writes = u32::try_from(writes).unwrap_or(u32::MAX);
        match self.link.exchange.ask(call, Gathering::new(expected), writes).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Rejected("its stream has ended".to_owned())),
        }
    }

    async fn done(
        &self,
        context: &StoreContext,
        call: Call,
        writes: usize,
    ) -> Result<(), StoreError> {
        self.ask(context, call, Expected::Done, writes).await.map(drop)
    }

    async fn numbers(&self, context: &StoreContext) -> Result<Vec<Range<u64>>, StoreError> {
        match self.ask(context, Call::List(v1::ListBlocksCall {}), Expected::Numbers, 0).await? {
            Reply::Numbers(runs) => Ok(runs),
            other => Err(unexpected(&other)),
        }
    }
}

/// Cannot be: the answer was checked against what was expected.
fn unexpected(reply: &Reply) -> StoreError {
    StoreError::Rejected(format!("it answered {reply:?}"))
}

impl Drop for StreamStore {
    fn drop(&mut self) {
        self.link.end(None);
    }
}

impl BlockStore for StreamStore {
    fn block_size(&self) -> u32 {
        self.link.block_size
    }

    fn discards(&self) -> bool {
        self.link.discards
    }

    fn list<'a>(&'a self, context: &'a StoreContext) -> Listing<'a> {
        stream::once(self.numbers(context)).boxed()
    }

    fn read<'a>(
        &'a self,
        range: Range<u64>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>> {
        async move {
            let blocks = range.end - range.start;
            let count = u32::try_from(blocks).map_err(std::io::Error::other)?;
            let most = usize::try_from(blocks * u64::from(self.link.block_size));
            let expected = Expected::Chunks(most.map_err(std::io::Error::other)?);
            let call = Call::Read(v1::ReadBlocksCall { start: range.start, count });
            match self.ask(context, call, expected, 0).await? {
                Reply::Chunks(chunks) => Ok(chunks),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let length = chunks.iter().map(|chunk| chunk.data.len()).sum();
            let chunk = |chunk: BlockChunk| v1::BlockChunk { start: chunk.start, data: chunk.data };
            let chunks = chunks.into_iter().map(chunk).collect();
            self.done(context, Call::Write(v1::WriteBlocksCall { chunks }), length).await
        }
        .boxed()
    }

    fn discard<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut blocks = ranges.into_iter().flatten().peekable();
            while blocks.peek().is_some() {
                let some = blocks.by_ref().take(BLOCKS_PER_DISCARD).collect();
                self.done(context, Call::Discard(v1::DiscardBlocksCall { blocks: some }), 0)
                    .await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn flush<'a>(&'a self, context: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if !self.link.flushes {
                return Ok(());
            }
            self.done(context, Call::Flush(v1::FlushBlocksCall {}), 0).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
