//! The stream of the client that serves a block store.

use std::sync::Arc;

use blockcow::limits::{MAX_BATCH_BYTES, SECTOR_BYTES};
use protocol::v1;
use protocol::v1::block_store_call::Call;
use protocol::v1::serve_block_store_request::Request;
use protocol::v1::serve_block_store_response::Response;
use tokio_util::sync::CancellationToken;

use super::answer::{Gathering, Outcome, has_more, too_many_runs};
use crate::callback::{
    Attached, Breach, CallbackStream, Dialogue, Exchange, check_credits, check_id,
};
use crate::error::Error;
use crate::limits::{BLOCK_RUNS_HELD, BLOCK_WRITE_BYTES, MAX_BLOCK_STORES};
use crate::request::RequestError;

/// A question before it has its number.
#[derive(Debug)]
pub struct StoreCall {
    /// The exact base image.
    pub base: String,
    /// The writer's number.
    pub generation: u64,
    /// What is asked.
    pub call: Call,
}

/// What `ServeBlockStore` says and hears.
pub struct StoreDialogue;

impl Dialogue for StoreDialogue {
    type Call = StoreCall;
    type Answer = v1::BlockStoreAnswer;
    type Gathering = Gathering;
    type Outcome = Outcome;
    type Said = v1::ServeBlockStoreResponse;

    const WRITE_BYTES: u32 = BLOCK_WRITE_BYTES;
    const HELD: usize = BLOCK_RUNS_HELD;

    fn attached() -> Self::Said {
        said(Response::Attached(v1::BlockStoreAttached {}))
    }

    fn call(id: u64, StoreCall { base, generation, call }: StoreCall) -> Self::Said {
        said(Response::Call(v1::BlockStoreCall { id, base, generation, call: Some(call) }))
    }

    fn cancel(id: u64) -> Self::Said {
        said(Response::Cancel(v1::CancelBlockStoreCall { id }))
    }

    fn id(answer: &Self::Answer) -> u64 {
        answer.id
    }

    fn has_more(answer: &Self::Answer) -> bool {
        has_more(answer)
    }

    fn too_much() -> Outcome {
        too_many_runs()
    }
}

fn said(response: Response) -> v1::ServeBlockStoreResponse {
    v1::ServeBlockStoreResponse { response: Some(response) }
}

/// One store's stream.
pub struct StoreLink {
    pub(super) exchange: Exchange<StoreDialogue>,
    /// Bytes of a block.
    pub(super) block_size: u32,
    /// It can be asked to flush.
    pub(super) flushes: bool,
    /// It can be asked to discard.
    pub(super) discards: bool,
}

impl CallbackStream for StoreLink {
    type Request = v1::ServeBlockStoreRequest;
    type Response = v1::ServeBlockStoreResponse;

    const FIRST: &'static str = "The first request of ServeBlockStore must be attach";
    const TOO_LATE: &'static str = "Block stores are attached before Boot, not after it";
    const UNREADABLE: &'static str = "A message of ServeBlockStore cannot be read";
    const MOST: usize = MAX_BLOCK_STORES;

    fn attach(first: Self::Request) -> Result<Attached<Self>, Error> {
        let Some(Request::Attach(attach)) = first.request else {
            return Err(Error::Sequence(Self::FIRST));
        };
        let v1::AttachBlockStore { id, credits, block_size, flushes, discards } = attach;
        check_id("attach.id", &id)?;
        let size = u64::from(block_size);
        if size == 0 || !size.is_multiple_of(SECTOR_BYTES) || size > MAX_BATCH_BYTES {
            let reason = "it must be a multiple of 512 up to 4 MiB";
            return Err(RequestError::new("attach.block_size", block_size, reason).into());
        }
        let (exchange, said) = Exchange::new(check_credits(credits)?);
        let link = Arc::new(Self { exchange, block_size, flushes, discards });
        Ok(Attached { id, link, said })
    }

    fn hear(&self, request: Self::Request) -> Result<(), Breach> {
        match request.request {
            Some(Request::Answer(answer)) => self.exchange.answered(answer),
            Some(Request::Attach(_)) => {
                Err(Breach::Sequence("ServeBlockStore takes one attach, and it comes first"))
            }
            None => Err(Breach::Sequence("ServeBlockStore takes no empty requests")),
        }
    }

    fn ended(&self) -> &CancellationToken {
        self.exchange.ended()
    }

    fn end(&self, problem: Option<&str>) {
        self.exchange.end(problem);
    }
}

impl std::fmt::Debug for StoreLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pending = self.exchange.pending();
        f.debug_struct("StoreLink").field("pending", &pending).finish_non_exhaustive()
    }
}
