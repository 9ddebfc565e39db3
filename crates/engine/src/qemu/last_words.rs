//! The end of what a process writes, within a bound.

/// Bytes that are kept.
const KEPT: usize = 8 * 1024;

/// The last [`KEPT`] bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    bytes: Vec<u8>,
    cut: bool,
}

impl LastWords {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        let excess = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..excess);
        self.cut |= excess > 0;
    }

    /// As text; begins with an ellipsis when something was dropped.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim();
        if self.cut { format!("…{text}") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_says_so() {
        let mut words = LastWords::default();
        words.push(b"bad option\n");
        assert_eq!(words.text(), "bad option");
        for _ in 0..1_000 {
            words.push(&[b'x'; 100]);
        }
        words.push(b"\xff the end\n");
        let text = words.text();
        assert!(text.starts_with("…x") && text.ends_with("x\u{fffd} the end"));
        assert!(words.bytes.len() == KEPT);
    }
}
