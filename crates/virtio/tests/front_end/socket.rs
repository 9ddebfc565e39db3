//! The front end's end of the socket, message by message.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const RESET_OWNER: u32 = 4;

pub(crate) const CONFIG: u64 = 1 << 9;
/// Multiple queues, acknowledged messages, configuration space.
pub(crate) const PROTOCOL_FEATURES: u64 = 1 | 1 << 3 | CONFIG;

const VERSION: u32 = 1;
const NEED_REPLY: u32 = 8;

pub(crate) struct Socket(UnixStream);

impl Socket {
    /// Both ends.
    pub(crate) fn pair() -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // Against a test that waits for ever.
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (Self(ours), theirs)
    }

    /// Bytes as they are.
    pub(crate) fn send_raw(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> nix::Result<usize> {
        let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
        let fd = self.0.as_raw_fd();
        sendmsg::<()>(fd, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
    }

    fn send(&self, code: u32, flags: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> bool {
        let length = u32::try_from(payload.len()).unwrap();
        let mut message = Vec::new();
        for field in [code, VERSION | flags, length] {
            message.extend(field.to_ne_bytes());
        }
        message.extend(payload);
        self.send_raw(&message, files).is_ok()
    }

    /// A message that has no answer of its own; whether it was accepted.
    #[must_use]
    pub(crate) fn tell(&self, code: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> bool {
        self.send(code, NEED_REPLY, payload, files)
            && self.receive(code).is_some_and(|answer| answer == 0u64.to_ne_bytes())
    }

    /// The answer to a question, if there is one.
    pub(crate) fn ask(&self, code: u32, payload: &[u8]) -> Option<Vec<u8>> {
        if self.send(code, 0, payload, &[]) { self.receive(code) } else { None }
    }

    pub(crate) fn ask_u64(&self, code: u32) -> u64 {
        u64::from_ne_bytes(self.ask(code, &[]).unwrap().try_into().unwrap())
    }

    fn receive(&self, code: u32) -> Option<Vec<u8>> {
        let mut header = [0; 12];
        (&self.0).read_exact(&mut header).ok()?;
        let field = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(field(0), code);
        let mut payload = vec![0; field(8) as usize];
        (&self.0).read_exact(&mut payload).ok()?;
        Some(payload)
    }

    /// Whether the other end has hung up. Waits for it.
    pub(crate) fn is_closed(&self) -> bool {
        (&self.0).read(&mut [0; 1]).is_ok_and(|count| count == 0)
    }
}
