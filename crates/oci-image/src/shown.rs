//! Bytes that others chose, as they may stand in a message: escaped and of a bounded length.

/// Characters of it that a message shows.
const SHOWN: usize = 120;

/// Control characters and the like escaped, cut after 120 characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    // One character takes four bytes at most; the rest need not be looked at.
    let head = &bytes[..bytes.len().min(4 * SHOWN)];
    let escaped: String = String::from_utf8_lossy(head).escape_debug().collect();
    let mut text: String = escaped.chars().take(SHOWN).collect();
    if text.len() < escaped.len() || head.len() < bytes.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_short_and_on_one_line() {
        assert_eq!(shown(b"usr/bin/\xc3\xa4"), "usr/bin/ä");
        assert_eq!(shown(b"a\n\x1b[31m"), "a\\n\\u{1b}[31m");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
        assert_eq!(shown(&[b'a'; 5000]).chars().count(), SHOWN + 1);
    }
}
