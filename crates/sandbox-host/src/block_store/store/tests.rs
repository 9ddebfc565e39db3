use std::collections::BTreeMap;

use blockcow::conformance;
use bytes::Bytes;
use protocol::v1::block_store_answer::Answer;
use protocol::v1::serve_block_store_request::Request;
use protocol::v1::serve_block_store_response::Response;
use tokio::sync::mpsc;

use super::*;
use crate::callback::Attached;

const BLOCK: usize = 512;

fn attach(discards: bool) -> Attached<StoreLink> {
    let attach = v1::AttachBlockStore {
        id: "root".to_owned(),
        credits: 4,
        block_size: u32::try_from(BLOCK).unwrap(),
        flushes: true,
        discards,
    };
    let first = v1::ServeBlockStoreRequest { request: Some(Request::Attach(attach)) };
    StoreLink::attach(first).unwrap()
}

fn answer(id: u64, answer: Answer) -> v1::ServeBlockStoreRequest {
    let answer = v1::BlockStoreAnswer { id, answer: Some(answer) };
    v1::ServeBlockStoreRequest { request: Some(Request::Answer(answer)) }
}

/// A client that keeps blocks in a map.
async fn client(link: Arc<StoreLink>, mut said: mpsc::Receiver<v1::ServeBlockStoreResponse>) {
    let mut kept: BTreeMap<u64, Bytes> = BTreeMap::new();
    while let Some(v1::ServeBlockStoreResponse { response: Some(response) }) = said.recv().await {
        let Response::Call(call) = response else { continue };
        assert_eq!((call.base.as_str(), call.generation), ("sha256:test", 1));
        let done = Answer::Done(v1::BlockStoreDone {});
        let reply = match call.call.unwrap() {
            Call::List(_) => {
                // In pieces, the last of which may be empty.
                let all: Vec<u64> = kept.keys().copied().collect();
                for blocks in all.chunks(3) {
                    let piece = v1::BlockNumbers { blocks: blocks.to_vec(), more: true };
                    link.hear(answer(call.id, Answer::Numbers(piece))).unwrap();
                }
                Answer::Numbers(v1::BlockNumbers { blocks: Vec::new(), more: false })
            }
            Call::Read(read) => {
                let range = read.start..read.start + u64::from(read.count);
                let chunk = |(start, data): (&u64, &Bytes)| v1::BlockChunk {
                    start: *start,
                    data: data.clone(),
                };
                let chunks = kept.range(range).map(chunk).collect();
                Answer::Chunks(v1::BlockChunks { chunks })
            }
            Call::Write(write) => {
                for v1::BlockChunk { start, mut data } in write.chunks {
                    for block in (start..).take(data.len() / BLOCK) {
                        kept.insert(block, data.split_to(BLOCK));
                    }
                }
                done
            }
            Call::Flush(_) => done,
            Call::Discard(discard) => {
                discard.blocks.iter().for_each(|block| drop(kept.remove(block)));
                done
            }
        };
        link.hear(answer(call.id, reply)).unwrap();
    }
}

fn served(discards: bool) -> Arc<dyn BlockStore> {
    let Attached { link, said, .. } = attach(discards);
    tokio::spawn(client(Arc::clone(&link), said));
    Arc::new(StreamStore::new(link, Arc::default()))
}

#[tokio::test]
async fn it_is_a_store_with_and_without_discard() {
    conformance::check(|| async { served(true) }).await;
    conformance::check(|| async { served(false) }).await;
}

#[tokio::test]
async fn call_that_nobody_waits_for_is_cancelled_and_keeps_its_credit() {
    let Attached { link, mut said, .. } = attach(false);
    let store = StreamStore::new(Arc::clone(&link), Arc::default());
    let context = conformance::context();
    let mut is_attached = said.recv().await;
    for _ in 0..4 {
        assert!(store.flush(&context).now_or_never().is_none());
    }
    let mut seen = Vec::new();
    while let Ok(next) = said.try_recv() {
        is_attached = Some(next.clone());
        seen.push(matches!(next.response, Some(Response::Cancel(_))));
    }
    assert!(is_attached.is_some());
    assert_eq!(seen.iter().filter(|cancel| **cancel).count(), 4, "{seen:?}");
    // All credits are with questions that were not answered.
    assert!(store.flush(&context).now_or_never().is_none());
    assert!(said.try_recv().is_err());
    link.hear(answer(1, Answer::Error("late".to_owned()))).unwrap();
    assert!(store.flush(&context).now_or_never().is_none());
    assert!(said.try_recv().is_ok());
}

#[tokio::test]
async fn every_call_fails_once_the_stream_has_ended() {
    let Attached { link, said, .. } = attach(false);
    let store = StreamStore::new(Arc::clone(&link), Arc::default());
    link.end(Some("gone"));
    drop(said);
    let failed = store.flush(&conformance::context()).await;
    assert!(matches!(failed, Err(StoreError::Rejected(_))));
}
