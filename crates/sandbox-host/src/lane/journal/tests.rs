use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::lane::EndReason;
use crate::limits::CONSOLE_RING;

fn take_ready(watcher: &mut Watcher) -> Vec<Observation> {
    let mut seen = Vec::new();
    while let Some(Some((_, observation))) = watcher.next().now_or_never() {
        seen.push(observation);
    }
    seen
}

fn console(text: &'static str, skipped: u64, end: u64) -> Observation {
    Observation::Console(Piece { data: Bytes::from_static(text.as_bytes()), skipped, end })
}

fn ended() -> Ended {
    Ended::new(EndReason::Closed, "Closed", None)
}

#[test]
fn late_watcher_gets_the_console_and_the_current_state_first() {
    let journal = Arc::new(Journal::default());
    journal.enter(State::Booting);
    journal.step("probe");
    journal.step("start-engine");
    journal.console().push(b"hello");
    let mut watcher = journal.watch();
    journal.step("connect-guest");
    let expected = [
        console("hello", 0, 5),
        Observation::Event(Event::State(State::Booting)),
        Observation::Event(Event::Step("start-engine".to_owned())),
        Observation::Event(Event::Step("connect-guest".to_owned())),
    ];
    assert_eq!(take_ready(&mut watcher), expected);
    assert_eq!(take_ready(&mut watcher), []);
}

#[test]
fn end_comes_last_and_completes_the_watch() {
    let journal = Arc::new(Journal::default());
    let mut watcher = journal.watch();
    journal.console().push(b"last words");
    let end = journal.end(ended());
    assert_eq!(end.console_tail, "last words");
    let seen = take_ready(&mut watcher);
    let expected = [
        Observation::Event(Event::State(State::Idle)),
        Observation::Event(Event::State(State::Exited)),
        console("last words", 0, 10),
        Observation::Ended(end.clone()),
    ];
    assert_eq!(seen, expected);
    assert_eq!(watcher.next().now_or_never(), Some(None));
    let late = take_ready(&mut journal.watch());
    assert_eq!(late.last(), Some(&Observation::Ended(end)));
}

#[test]
fn slow_watcher_is_told_how_many_events_it_missed() {
    let journal = Arc::new(Journal::default());
    let mut watcher = journal.watch();
    for number in 0..EVENTS_KEPT + 3 {
        journal.warn(number.to_string());
    }
    let seen = take_ready(&mut watcher);
    assert_eq!(seen.len(), 2 + EVENTS_KEPT);
    let Observation::Event(Event::Warning(text)) = &seen[1] else { panic!("{:?}", seen[1]) };
    assert!(text.contains("3 events"), "{text}");
    let last = Event::Warning((EVENTS_KEPT + 2).to_string());
    assert_eq!(seen.last(), Some(&Observation::Event(last)));
}

#[test]
fn watcher_that_never_reads_holds_nobody_back() {
    let journal = Arc::new(Journal::default());
    let mut watcher = journal.watch();
    for _ in 0..100 {
        journal.console().push(&vec![b'x'; CONSOLE_RING]);
    }
    journal.end(ended());
    let seen = take_ready(&mut watcher);
    assert!(matches!(seen.last(), Some(Observation::Ended(_))));
}

#[tokio::test]
async fn waiting_for_the_end_ends() {
    let journal = Arc::new(Journal::default());
    let waiting = tokio::spawn({
        let journal = journal.clone();
        async move { journal.wait_ended().await.reason }
    });
    tokio::task::yield_now().await;
    journal.end(ended());
    assert_eq!(waiting.await.unwrap(), EndReason::Closed);
}

#[test]
fn processes_are_counted_while_their_guards_live() {
    let journal = Journal::default();
    let one = journal.count_process();
    let two = journal.count_process();
    assert_eq!(journal.status().processes, 2);
    drop((one, two));
    assert_eq!(journal.status().processes, 0);
}
