//! The log: JSON lines on standard error, chosen by `LANEBOX_LOG`.
//!
//! The reader of standard error is not ours, and may not read: lines go through a bounded queue to a
//! thread of their own, and what does not fit is dropped rather than waited for. What the guest
//! prints, and what its processes read and write, is not logged.

use std::env;
use std::io::{self, Write};
use std::panic;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable with the filter.
pub const VARIABLE: &str = "LANEBOX_LOG";
const DEFAULT: &str = "warn";
const LINES: usize = 2048;
/// What libkrun's devices say of the guest's accesses, as often as the guest likes: nobody hears it.
const UNHEARD: &str = "msb_krun_devices=off";

/// The filter does not make sense.
#[derive(Debug, thiserror::Error)]
#[error(
    "{VARIABLE} is {value:?}, but it must be a level (error, warn, info, debug, trace) or a list \
     such as \"info,sandbox_host=debug\""
)]
pub struct FilterError {
    value: String,
    source: Option<tracing_subscriber::filter::ParseError>,
}

/// Starts logging. The log is flushed when the guard is dropped.
///
/// # Errors
/// [`FilterError`].
pub fn begin() -> Result<WorkerGuard, FilterError> {
    let filter = filter(env::var_os(VARIABLE))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(Log::default());
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(writer)
        .init();
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        let text = info.payload_as_str().unwrap_or_default();
        tracing::error!(panic = text, place, "a task panicked");
    }));
    Ok(guard)
}

/// Standard error, written to by a thread that does nothing else.
#[derive(Debug, Default)]
struct Log {
    begun: bool,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.begun, true) {
            confine::thread(confine::Role::Log);
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn filter(value: Option<std::ffi::OsString>) -> Result<EnvFilter, FilterError> {
    let value = match value {
        None => DEFAULT.to_owned(),
        Some(value) => value.into_string().map_err(|value| FilterError {
            value: value.to_string_lossy().into_owned(),
            source: None,
        })?,
    };
    let text = if value.is_empty() { DEFAULT } else { &value };
    let known = |part: &str| {
        // EnvFilter takes any word for a target, so that "inof" would mean silence.
        !part.is_empty() && (part.contains(['=', ':', '[']) || part.parse::<LevelFilter>().is_ok())
    };
    if !text.split(',').all(|part| known(part.trim())) {
        return Err(FilterError { value, source: None });
    }
    EnvFilter::builder()
        .parse(format!("{text},{UNHEARD}"))
        .map_err(|source| FilterError { value: value.clone(), source: Some(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_taken() {
        for good in ["", "info", "DEBUG", "warn,sandbox_host=debug", "off", "engine::qemu=trace"] {
            assert!(filter(Some(good.into())).is_ok(), "{good}");
        }
        assert!(filter(None).is_ok());
    }

    #[test]
    fn no_filter_lets_a_guest_write_the_log_by_its_accesses_to_devices() {
        for given in [None, Some("trace"), Some("msb_krun_devices=warn")] {
            let said = filter(given.map(Into::into)).unwrap().to_string();
            assert!(said.contains(UNHEARD) && !said.contains("msb_krun_devices=warn"), "{said}");
        }
    }

    #[test]
    fn malformed_filters_are_refused_and_shown() {
        for bad in ["inof", "info,=", "sandbox_host=loud", "info,,debug", "[{"] {
            let error = filter(Some(bad.into())).expect_err(bad);
            assert!(error.to_string().contains(VARIABLE), "{error}");
        }
    }
}
