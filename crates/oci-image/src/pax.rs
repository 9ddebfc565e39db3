//! The records of a pax header: `LENGTH KEY=VALUE\n`, the length being that of the whole record.

use std::collections::BTreeMap;

use crate::sparse::PaxSparse;

/// The records of one header that have a say about the member.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Whole seconds; times before 1970 are 0.
    pub(crate) mtime: Option<u64>,
    /// Full names such as `security.capability`.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// GNU tar's sparse files.
    pub(crate) sparse: Option<PaxSparse>,
    /// The name of a sparse file; `path` is one for programs that do not know of them.
    pub(crate) sparse_name: Option<Vec<u8>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Records {
    /// Read a header's data; nothing when it is not well formed. A later record wins.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let mut records = Self::default();
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) = split(rest)?;
            records.take(key, value)?;
            rest = after;
        }
        Some(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(seconds(value)?),
            _ if key.starts_with(XATTR) => {
                let name = std::str::from_utf8(&key[XATTR.len()..]).ok()?;
                // No namespace, no attribute (xattr(7)).
                let (space, rest) = name.split_once('.')?;
                if space.is_empty() || rest.is_empty() || name.contains('\0') || name.len() > 255 {
                    return None;
                }
                self.xattrs.insert(name.to_owned(), value.to_vec());
            }
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.take_sparse(key, value)?;
                }
            }
        }
        Some(())
    }

    fn take_sparse(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let sparse = self.sparse.get_or_insert_default();
        match key {
            b"major" => sparse.major = Some(number(value)?),
            b"minor" => sparse.minor = Some(number(value)?),
            b"size" | b"realsize" => sparse.size = Some(number(value)?),
            b"map" => sparse.map = Some(value.to_vec()),
            // `offset` and `numbytes` are those of version 0.0, which then has no map.
            _ => {}
        }
        Some(())
    }
}

/// Key and value of the first record, and what follows it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&data[..blank])?).ok()?;
    if length <= blank + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let record = &data[blank + 1..length - 1];
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A decimal number of seconds that may have a fraction or be negative.
fn seconds(text: &[u8]) -> Option<u64> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let whole = text.split(|byte| *byte == b'.').next()?;
    let seconds = number(whole)?;
    Some(if negative { 0 } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let mut out = format!("{length} {key}=").into_bytes();
        out.extend_from_slice(value);
        out.push(b'\n');
        out
    }

    #[test]
    fn values_may_hold_anything() {
        let mut data = record("SCHILY.xattr.user.a", b"1\n2=3\0");
        data.extend(record("path", "ä".repeat(60).as_bytes()));
        data.extend(record("mtime", b"12.75"));
        data.extend(record("size", b"8589934592"));
        data.extend(record("comment", b"ignored"));
        let records = Records::parse(&data).unwrap();
        assert_eq!(records.xattrs["user.a"], b"1\n2=3\0");
        assert_eq!(records.path.unwrap().len(), 120);
        assert_eq!((records.mtime, records.size), (Some(12), Some(1 << 33)));
        assert_eq!(Records::parse(&record("mtime", b"-3.5")).unwrap().mtime, Some(0));
        assert!(Records::parse(&record("GNU.sparse.major", b"1")).unwrap().sparse.is_some());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for data in [
            &b"5 a=b"[..],
            b"0 a=b\n",
            b"99 a=b\n",
            b"6 ab=\nx",
            b"x a=b\n",
            b"5 =bc\n",
            b"18446744073709551616 a=b\n",
            b"10 size=-1\n",
            b"10 size=1x\n",
            b" a=b\n",
        ] {
            assert_eq!(Records::parse(data), None, "{}", String::from_utf8_lossy(data));
        }
        assert_eq!(Records::parse(&record("SCHILY.xattr.noname", b"1")), None);
    }
}
