//! Watch: late, slow and many.

use futures::StreamExt;
use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::watch_response::Event;
use sandbox_host::limits::{CONSOLE_RING, MAX_WATCHERS};

use crate::client::{Helper, assert_code, detail, soon};
use crate::guest::Script;

#[tokio::test]
async fn late_watcher_gets_the_console_and_the_state() {
    let helper = Helper::booted(Script::default()).await;
    let mut sandbox = helper.sandbox.clone();
    let mut events = soon(sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
    let first = soon(events.next()).await.unwrap().unwrap();
    assert!(first.time_unix_nanos > 1_700_000_000_000_000_000);
    let Some(Event::Console(console)) = first.event else { panic!("{first:?}") };
    assert_eq!(console.data.as_ref(), b"init: configuring\n");
    let second = soon(events.next()).await.unwrap().unwrap().event;
    let Some(Event::StateChanged(change)) = second else { panic!("{second:?}") };
    assert_eq!(change.state(), v1::State::Running);
}

#[tokio::test]
async fn watcher_that_does_not_read_misses_console_and_holds_nobody_back() {
    let helper = Helper::booted(Script::default()).await;
    let remote = helper.engine.remote().await;
    let mut sandbox = helper.sandbox.clone();
    let slow = soon(sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
    let line = "x".repeat(1023) + "\n";
    let printed = 16 * CONSOLE_RING;
    for _ in 0..printed / line.len() {
        soon(remote.print(&line)).await;
    }
    remote.reset();
    let events: Vec<_> = soon(slow.map(|event| event.unwrap().event.unwrap()).collect()).await;
    let (mut seen, mut skipped) = (0, 0);
    for event in &events {
        if let Event::Console(console) = event {
            seen += console.data.len() as u64;
            skipped += console.skipped_bytes;
        }
    }
    assert!(skipped > 0, "all {seen} bytes were kept for it");
    assert_eq!(seen + skipped, (printed + "init: configuring\n".len()) as u64);
    assert!(matches!(events.last(), Some(Event::Exited(_))));
}

#[tokio::test]
async fn watchers_are_limited_and_leave_room_when_they_go() {
    let helper = Helper::start(Script::default()).await;
    let mut watchers = Vec::new();
    for _ in 0..MAX_WATCHERS {
        watchers.push(soon(helper.sandbox.clone().watch(v1::WatchRequest {})).await.unwrap());
    }
    let refused = detail(soon(helper.sandbox.clone().watch(v1::WatchRequest {})).await);
    assert_code(&refused, ErrorCode::LimitExceeded);
    drop(watchers);
    for _ in 0..100 {
        if soon(helper.sandbox.clone().watch(v1::WatchRequest {})).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the room was not given back");
}
