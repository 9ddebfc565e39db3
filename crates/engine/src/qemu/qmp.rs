//! QMP, the control protocol of QEMU (docs/interop/qmp-spec of its sources): JSON objects, one a
//! line. This is the protocol alone: bytes in, [`Message`]s out; the keeper owns the socket.
//!
//! QEMU may have been taken over by its guest, so lines are bounded and everything is checked.

use serde::Deserialize;

use crate::exit::ExitReason;

/// Longest line that is read; real ones are under 1 KiB.
const MAX_LINE: usize = 64 * 1024;

/// What QEMU says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The first line: who is there.
    Greeting(Version),
    /// The command with this number was done.
    Done(u64),
    /// The command with this number was refused, and why.
    Refused(u64, String),
    /// The machine ends, and who wants it; `None` is the host.
    Shutdown(Option<ExitReason>),
    /// Anything else that is well-formed.
    Other,
}

/// QEMU's version. The order is that of the releases.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// Such as 7.
    pub(crate) major: u32,
    /// Such as 2.
    pub(crate) minor: u32,
    /// Such as 22.
    pub(crate) micro: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Bytes that are not a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they come and returns the messages that are complete.
    ///
    /// # Errors
    /// What is wrong with a line; nothing after it can be trusted.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, String> {
        self.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                messages.push(parse(&line)?);
            }
        }
        if self.buffer.len() > MAX_LINE {
            return Err(format!("a line is longer than {MAX_LINE} bytes"));
        }
        Ok(messages)
    }
}

/// A command without arguments, ready to be sent.
pub(super) fn command(name: &str, number: u64) -> String {
    format!("{{\"execute\":\"{name}\",\"id\":{number}}}\n")
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    event: Option<String>,
    data: Option<serde_json::Value>,
    #[serde(rename = "return")]
    done: Option<serde::de::IgnoredAny>,
    error: Option<Refusal>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Greeting {
    version: GreetingVersion,
}

#[derive(Deserialize)]
struct GreetingVersion {
    qemu: Numbers,
}

#[derive(Deserialize)]
struct Numbers {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

fn parse(line: &[u8]) -> Result<Message, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(match line {
        Line { greeting: Some(greeting), .. } => {
            let Numbers { major, minor, micro } = greeting.version.qemu;
            Message::Greeting(Version { major, minor, micro })
        }
        Line { event: Some(event), data, .. } if event == "SHUTDOWN" => {
            let reason = data.as_ref().and_then(|data| data.get("reason")?.as_str());
            Message::Shutdown(reason.and_then(by_guest))
        }
        Line { done: Some(_), id: Some(number), .. } => Message::Done(number),
        Line { error: Some(Refusal { desc }), id: Some(number), .. } => {
            Message::Refused(number, desc)
        }
        _ => Message::Other,
    })
}

/// `ShutdownCause` of QEMU's qapi/run-state.json.
fn by_guest(reason: &str) -> Option<ExitReason> {
    match reason {
        "guest-reset" => Some(ExitReason::GuestReset),
        "guest-shutdown" => Some(ExitReason::GuestShutdown),
        "guest-panic" => Some(ExitReason::GuestPanic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &[u8] = br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}
"#;

    #[test]
    fn lines_are_put_together_from_any_pieces() {
        let mut bytes = GREETING.to_vec();
        bytes.extend_from_slice(b"{\"return\": {}, \"id\": 1}\r\n\r\n");
        bytes
            .extend_from_slice(b"{\"id\": 2, \"error\": {\"class\": \"X\", \"desc\": \"no\"}}\r\n");
        let expected = vec![
            Message::Greeting(Version { major: 7, minor: 2, micro: 22 }),
            Message::Done(1),
            Message::Refused(2, "no".to_owned()),
        ];
        for size in [1, 7, 64, bytes.len()] {
            let mut lines = Lines::default();
            let seen: Vec<_> =
                bytes.chunks(size).flat_map(|piece| lines.push(piece).unwrap()).collect();
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn shutdown_tells_who_wanted_it() {
        let say = |reason: &str| {
            let line = format!(
                "{{\"timestamp\": {{}}, \"event\": \"SHUTDOWN\", \
                 \"data\": {{\"guest\": true, \"reason\": \"{reason}\"}}}}\n"
            );
            Lines::default().push(line.as_bytes()).unwrap().remove(0)
        };
        assert_eq!(say("guest-reset"), Message::Shutdown(Some(ExitReason::GuestReset)));
        assert_eq!(say("guest-shutdown"), Message::Shutdown(Some(ExitReason::GuestShutdown)));
        assert_eq!(say("guest-panic"), Message::Shutdown(Some(ExitReason::GuestPanic)));
        assert_eq!(say("host-signal"), Message::Shutdown(None));
    }

    #[test]
    fn endless_and_malformed_lines_are_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b' '; MAX_LINE]).is_ok());
        assert!(lines.push(b"x").is_err());
        for line in ["nonsense\n", "[]\n", "{\"QMP\": 7}\n", "{\"id\": -1, \"return\": {}}\n"] {
            assert!(Lines::default().push(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn unknown_messages_are_passed_over() {
        let line = b"{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1, \"reason\": 5}}\n";
        assert_eq!(Lines::default().push(line), Ok(vec![Message::Other]));
    }
}
