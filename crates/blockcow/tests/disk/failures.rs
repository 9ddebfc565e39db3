//! Stores that refuse, hang and lie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockcow::{
    AnswerError, DiskEvent, EventSink, MemoryStore, OverlayError, OverlayOptions, ReadError,
    StoreCall, StoreError, WriteError,
};
use bytes::Bytes;
use futures::future::join_all;

use crate::store::{Fault, TestStore};
use crate::support::{content, context, over, raw_base, read, write};

const SIZE: usize = 256 << 10;

fn options() -> OverlayOptions {
    OverlayOptions {
        max_dirty_bytes: 1 << 20,
        // Long enough for what answers, and soon over for what does not.
        store_deadline: Duration::from_millis(300),
        ..OverlayOptions::default()
    }
}

#[tokio::test]
async fn wrong_answers_are_told_apart_and_cost_their_read_only() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    write(&disk, 0, &[1; 4 * 4096]).await.unwrap();
    disk.flush().await.unwrap();
    for (fault, error) in [
        (Fault::Short, AnswerError::Missing(3)),
        (Fault::Foreign, AnswerError::Foreign(1003)),
        (Fault::Oversized, AnswerError::Foreign(4)),
        (Fault::Duplicate, AnswerError::Duplicate(3)),
        (Fault::Ragged, AnswerError::Length { start: 0, length: 4 * 4096 - 1 }),
    ] {
        store.set("read", Some(fault));
        let failed = read(&disk, 0, 4 * 4096).await;
        let Err(ReadError::Store(StoreError::Answer(found))) = failed else { panic!("{failed:?}") };
        assert_eq!(found, error);
        // Also where the rest of a block is wanted.
        let failed = write(&disk, 512, &[2; 512]).await;
        assert!(
            matches!(failed, Err(WriteError::Read(ReadError::Store(_))))
                || fault == Fault::Short
                || fault == Fault::Oversized
                || fault == Fault::Ragged,
            "{fault:?}: {failed:?}"
        );
        assert!(read(&disk, 128 << 10, 4096).await.is_ok(), "the base is not concerned");
    }
    store.set("read", None);
    assert!(read(&disk, 0, 4 * 4096).await.is_ok());
}

#[tokio::test]
async fn a_store_that_hangs_costs_only_what_needs_it() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    write(&disk, 0, &[1; 64 << 10]).await.unwrap();
    disk.flush().await.unwrap();
    store.set("read", Some(Fault::Hang));
    // More at once than there are slots.
    let hanging = join_all((0..40u64).map(|number| read(&disk, number % 16 * 4096, 512)));
    let others = async {
        for _ in 0..20 {
            assert_eq!(
                read(&disk, 128 << 10, 512).await.unwrap(),
                content(SIZE)[128 << 10..][..512]
            );
            write(&disk, 192 << 10, &[9; 4096]).await.unwrap();
        }
    };
    let (hanging, ()) = futures::join!(hanging, others);
    for failed in hanging {
        assert!(matches!(failed, Err(ReadError::Store(StoreError::TimedOut))), "{failed:?}");
    }
    store.set("write", Some(Fault::Hang));
    let failed = disk.flush().await;
    assert!(matches!(failed, Err(WriteError::Store(StoreError::TimedOut))), "{failed:?}");
    assert!(disk.close().await.is_err(), "it ends");
}

#[tokio::test]
async fn writes_that_find_no_room_fail_with_the_store_and_go_on_with_it() {
    let base = raw_base(&[0; 512]);
    let store = Arc::new(TestStore::new(4096, true));
    let options = OverlayOptions { size_bytes: Some(8 << 20), ..options() };
    let disk = over(&base, &store, options).await;
    store.set("write", Some(Fault::Full));
    let mut refused = 0;
    for number in 0..2048u64 {
        match write(&disk, number * 4096, &[1; 4096]).await {
            Ok(()) => {}
            Err(WriteError::Store(StoreError::NoSpace)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // The budget's worth was taken.
    assert!((1700..2048).contains(&refused), "{refused}");
    store.set("write", None);
    write(&disk, 0, &[2; 4096]).await.unwrap();
    disk.flush().await.unwrap();
    assert!(store.state().durable.len() >= 2048 - refused);
}

#[tokio::test]
async fn the_owner_is_told_once_and_when_it_is_over() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = EventSink::new({
        let events = Arc::clone(&events);
        move |event| events.lock().unwrap().push(event)
    });
    let disk = over(&base, &store, OverlayOptions { events: Some(sink), ..options() }).await;
    write(&disk, 0, &[1; 8192]).await.unwrap();
    store.set("write", Some(Fault::Full));
    for _ in 0..3 {
        assert!(disk.flush().await.is_err());
    }
    store.set("write", None);
    disk.flush().await.unwrap();
    store.set("read", Some(Fault::Duplicate));
    for _ in 0..3 {
        assert!(read(&disk, 0, 512).await.is_err());
    }
    let told = |event: &DiskEvent| match event {
        DiskEvent::StoreFailing { call, .. } => (*call, true),
        DiskEvent::StoreRecovered { call } => (*call, false),
        _ => panic!("{event:?}"),
    };
    let told: Vec<_> = events.lock().unwrap().iter().map(told).collect();
    assert_eq!(told[..2], [(StoreCall::Write, true), (StoreCall::Write, false)]);
    assert!(told[2..].contains(&(StoreCall::Read, true)), "{told:?}");
}

#[tokio::test]
async fn what_a_store_lists_is_checked() {
    let base = raw_base(&content(SIZE));
    let open = async |store: TestStore| {
        let opened = base.with_store(Arc::new(store), context(), options()).await;
        opened.map(drop).unwrap_err()
    };
    let outside = TestStore::new(4096, true);
    outside.state().blocks.insert(64, Bytes::from(vec![0; 4096]));
    let error = open(outside).await;
    assert!(matches!(error, OverlayError::Listed(AnswerError::OutsideDisk(64))), "{error:?}");
    for (fault, expected) in [(Fault::Hang, "time"), (Fault::Reject, "failed")] {
        let store = TestStore::new(4096, true);
        store.set("list", Some(fault));
        let error = open(store).await;
        let OverlayError::List(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_block_that_is_listed_and_cannot_be_read_is_an_error() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    store.state().blocks.insert(3, Bytes::from(vec![0; 4096]));
    let disk = over(&base, &store, options()).await;
    store.state().blocks.clear();
    let failed = read(&disk, 3 * 4096, 512).await;
    let expected = StoreError::Answer(AnswerError::Missing(3)).to_string();
    assert!(matches!(&failed, Err(ReadError::Store(error)) if error.to_string() == expected));
    assert!(read(&disk, 2 * 4096, 512).await.is_ok());
}

#[tokio::test]
async fn a_full_memory_store_refuses_the_write_that_is_too_much() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(MemoryStore::new(16 * (4096 + 128)));
    let disk = over(&base, &store, options()).await;
    write(&disk, 0, &[1; 64 << 10]).await.unwrap();
    for _ in 0..3 {
        let refused = write(&disk, 64 << 10, &[2; 4096]).await;
        assert!(matches!(refused, Err(WriteError::Store(StoreError::NoSpace))), "{refused:?}");
        disk.flush().await.unwrap();
    }
    assert_eq!(read(&disk, 64 << 10, 512).await.unwrap(), content(SIZE)[64 << 10..][..512]);
    // Overwriting goes on, and so does writing, when something was discarded. The base lies
    // below, so these blocks become zeros, which are small.
    write(&disk, 0, &[3; 4096]).await.unwrap();
    disk.discard(0, 32 << 10).await.unwrap();
    write(&disk, 64 << 10, &[2; 4096]).await.unwrap();
    assert_eq!(read(&disk, 0, 32 << 10).await.unwrap(), [0; 32 << 10]);
}
