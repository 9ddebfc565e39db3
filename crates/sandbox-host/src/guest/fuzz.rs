//! What a guest sends as bytes, through everything that looks at it before it goes on. For fuzzing.

use prost::Message;
use protocol::guest::v1::{ConfigureResponse, ShutdownResponse, configure_response};
use protocol::v1::{
    ProcessExited, ReadDirectoryResponse, ReadFileResponse, ReadLinkResponse, ReadTreeResponse,
    RunResponse, StatResponse,
};
use protocol::{ErrorCode, ErrorDetail};

use super::check;
use super::error::{GuestError, refusal};
use super::file::{Check, Content, Directory, Link, Stat};
use super::run::Order;
use crate::limits::{GUEST_SENTENCE_BYTES, OUTPUT_MESSAGE_BYTES};
use crate::request::TreeRules;

/// Most bytes that the content of a file may have here.
const LIMIT: u64 = 1000;

/// Takes the answers to one call; the first byte says which call, and before each answer is a byte
/// with its length.
///
/// # Panics
/// When something gets through that must not.
pub fn answers(input: &[u8]) {
    let Some((call, mut rest)) = input.split_first() else { return };
    let mut messages = Vec::new();
    while let Some((length, more)) = rest.split_first() {
        let (message, more) = more.split_at(usize::from(*length).min(more.len()));
        messages.push(message);
        rest = more;
    }
    match call % 9 {
        0 => run(&messages),
        1 => all::<StatResponse>(&messages, &mut Stat),
        2 => all::<ReadLinkResponse>(&messages, &mut Link),
        3 => all::<ReadDirectoryResponse>(&messages, &mut Directory),
        4 => content(&messages),
        5 => all::<ReadTreeResponse>(&messages, &mut TreeRules::default()),
        6 => configure(&messages),
        7 => errors(&messages),
        _ => ends(&messages),
    }
}

fn all<R: Message + Default>(messages: &[&[u8]], check: &mut impl Check<R>) {
    let decoded = messages.iter().map_while(|message| R::decode(*message).ok());
    // The first that is wrong ends the call.
    for answer in decoded {
        if check.check(&answer).is_err() {
            return;
        }
    }
}

fn run(messages: &[&[u8]]) {
    let mut order = Order::NotStarted;
    for message in messages {
        let Ok(RunResponse { response: Some(response) }) = RunResponse::decode(*message) else {
            return;
        };
        assert!(order != Order::Exited || order.after(&response).is_err());
        match order.after(&response) {
            Ok(next) => order = next,
            Err(problem) => return assert!(problem.len() <= OUTPUT_MESSAGE_BYTES),
        }
    }
}

fn content(messages: &[&[u8]]) {
    let mut check = Content { left: LIMIT };
    let mut taken = 0;
    for message in messages {
        let Ok(answer) = ReadFileResponse::decode(*message) else { return };
        if check.check(&answer).is_err() {
            return;
        }
        taken += answer.data.len() as u64;
        assert!(taken <= LIMIT && check.left == LIMIT - taken);
    }
}

fn configure(messages: &[&[u8]]) {
    for message in messages {
        if let Ok(answer) = ConfigureResponse::decode(*message) {
            match answer.response {
                Some(configure_response::Response::StepStarted(step)) => {
                    assert!(!check::is_step(&step.name) || step.name.is_ascii());
                }
                Some(configure_response::Response::Configured(done)) => {
                    let release = &done.kernel_release;
                    assert!(!check::is_release(release) || !release.contains('\x1b'));
                }
                None => {}
            }
        }
        if let Ok(answer) = ShutdownResponse::decode(*message) {
            answer.problems.iter().for_each(|problem| plain(&check::sentence(problem)));
        }
    }
}

fn errors(messages: &[&[u8]]) {
    for message in messages {
        let Ok(detail) = ErrorDetail::decode(*message) else { continue };
        match refusal(detail, &[ErrorCode::FileError, ErrorCode::ProcessNotStarted]) {
            GuestError::Refused(refusal) => {
                plain(&refusal.message);
                assert!(refusal.errno.is_empty() || refusal.errno.starts_with('E'));
            }
            GuestError::Protocol(problem) => plain(&problem),
            GuestError::Deadline { .. } | GuestError::Lost => unreachable!("made from an answer"),
        }
    }
}

fn ends(messages: &[&[u8]]) {
    for message in messages {
        let Ok(exited) = ProcessExited::decode(*message) else { continue };
        if check::exited(&exited).is_ok() {
            assert!(exited.exit_code.is_some() != (exited.signal > 0));
        }
    }
}

/// What people read does not move their cursor.
fn plain(text: &str) {
    assert!(text.len() <= GUEST_SENTENCE_BYTES + 64);
    assert!(!text.chars().any(char::is_control));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_an_answer(input: Vec<u8>) {
            super::answers(&input);
        }
    }
}
