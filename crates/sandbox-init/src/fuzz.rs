//! Requests as bytes, through everything that looks at them before something is done. For fuzzing;
//! does nothing to the machine it runs on.

use prost::Message;
use protocol::guest::v1::{AnnounceChangesRequest, ConfigureRequest, SetClockRequest};
use protocol::v1::{ResizeRequest, RunRequest, SignalRequest};

use crate::announce;
use crate::boot::settings::{Settings, timespec};
use crate::file::frame;
use crate::limits::MAX_REQUEST;
use crate::machine::{Environment, Lane};
use crate::process::request::{Command, size};
use crate::process::signals;

/// Handles one request; the first byte says of which call.
///
/// # Panics
/// When something gets through that must not.
pub fn request(input: &[u8]) {
    let Some((call, bytes)) = input.split_first() else { return };
    match call % 7 {
        0 => configure(bytes),
        1 => run(bytes),
        2 => {
            let _ = AnnounceChangesRequest::decode(bytes).map(|request| {
                if let Ok(mark) = announce::check(&request) {
                    assert!((0..1_000_000_000).contains(&mark.tv_nsec));
                }
            });
        }
        3 => {
            let _ = SetClockRequest::decode(bytes).map(|request| timespec(request.time_unix_nanos));
        }
        4 => {
            if let Ok(ResizeRequest { size: Some(given), .. }) = ResizeRequest::decode(bytes)
                && let Ok(taken) = size(given)
            {
                assert!(taken.rows > 0 && taken.columns > 0);
            }
        }
        5 => {
            if let Ok(request) = SignalRequest::decode(bytes)
                && let Some(number) = signals::number(&request.signal)
            {
                assert!((1..=64).contains(&number), "{} is {number}", request.signal);
            }
        }
        _ => frames(bytes),
    }
}

fn configure(bytes: &[u8]) {
    let Ok(request) = ConfigureRequest::decode(bytes) else { return };
    let Ok(settings) = Settings::new(request) else { return };
    assert!(settings.root.device.starts_with("/dev/"));
    for served in &settings.served {
        assert!(served.target.starts_with('/') && !served.target.contains("/../"));
    }
}

fn run(bytes: &[u8]) {
    let Ok(request) = RunRequest::decode(bytes) else { return };
    let lane = Lane { cwd: c"/".into(), env: Environment::new(), workload: None, terminals: None };
    if let Ok(command) = Command::from_first(Some(request), &lane) {
        assert!(!command.name().is_empty());
        assert!(command.cwd.as_bytes().starts_with(b"/"));
    }
}

/// What a worker of files reads, and what it answers.
fn frames(mut bytes: &[u8]) {
    while let Ok((_, payload)) = frame::read(&mut bytes) {
        assert!(payload.len() <= MAX_REQUEST);
        let _ = frame::decode(&payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_request(input: Vec<u8>) {
            super::request(&input);
        }
    }
}
