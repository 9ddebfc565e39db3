//! What a client says on `ServeFilesystem`, against the checks of the helper: no panic, no more
//! than was asked for, and no question that is lost.
#![no_main]

use futures::FutureExt;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use protocol::v1;
use protocol::v1::filesystem_call::Call;
use sandbox_host::mount::answer::{Expected, Gathering, Outcome, Reply};
use sandbox_host::mount::link::Link;
use vfs::callbacks::FilePath;

const LIMIT: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let expected = match choice % 7 {
        0 => Expected::Done,
        1 => Expected::Stat,
        2 => Expected::Entries(LIMIT),
        3 => Expected::Data(LIMIT),
        4 => Expected::Written(LIMIT),
        5 => Expected::Names,
        _ => Expected::Sizes,
    };
    let mut gathering = Gathering::new(expected);
    // Messages with a byte of length before each, as a fuzzer finds them easily.
    let mut messages = Vec::new();
    let mut rest = rest;
    while let Some((length, more)) = rest.split_first() {
        let (message, more) = more.split_at(usize::from(*length).min(more.len()));
        messages.push(message);
        rest = more;
    }
    for message in &messages {
        let Ok(answer) = v1::FilesystemAnswer::decode(*message) else { continue };
        let taken = gathering.take(answer);
        assert!(gathering.held() <= LIMIT);
        assert!(taken.outcome.is_some() || taken.more, "an answer that ends nothing");
        match taken.outcome {
            Some(Outcome::Reply(Reply::Data(data))) => assert!(data.len() <= LIMIT),
            Some(Outcome::Reply(Reply::Written(count))) => assert!(count <= LIMIT as u64),
            Some(Outcome::Reply(Reply::Entries(entries))) => assert!(entries.len() <= LIMIT),
            Some(Outcome::Failed { errno, .. }) => assert!((1..512).contains(&errno.number())),
            _ => {}
        }
    }
    hear(expected, &messages);
});

/// The same messages to a link with two questions.
fn hear(expected: Expected, messages: &[&[u8]]) {
    let (link, _said) = Link::new(2);
    let root = FilePath::root();
    let ask = || link.ask(&root, Call::Stat(v1::StatCall {}), expected, 0);
    let mut asked = [Box::pin(ask()), Box::pin(ask())];
    for one in &mut asked {
        assert!(one.now_or_never().is_none());
    }
    for message in messages {
        let Ok(request) = v1::ServeFilesystemRequest::decode(*message) else { continue };
        if link.hear(request).is_err() {
            return;
        }
    }
}
