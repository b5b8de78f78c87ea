//! PAX extended headers (POSIX.1-2001, `pax` interchange format): records of the form `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;

use super::{TarError, Timestamp};

/// What extended headers say about the entry that follows them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    /// A GNU sparse file in one of its PAX forms.
    pub(super) sparse: bool,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Extended {
    /// Adds the records in `data`, the body of a header at `offset`.
    pub(super) fn add_pax(&mut self, mut data: &[u8], offset: u64) -> Result<(), TarError> {
        let bad = |reason| TarError::Extended { offset, reason };
        while !data.is_empty() {
            let (key, value, rest) = split_record(data).ok_or_else(|| bad("a record breaks the format"))?;
            self.add_record(key, value).ok_or_else(|| bad("a record has a bad value"))?;
            data = rest;
        }
        Ok(())
    }

    fn add_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Some(())
    }
}

/// Key, value and what follows the record.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // 20 digits hold any 64-bit length.
    let space = data.iter().take(21).position(|&b| b == b' ')?;
    let length: usize = number(&data[..space])?;
    if length <= space + 1 || length > data.len() {
        return None;
    }
    let (record, rest) = data.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Decimal seconds with an optional fraction, which may be negative: `-1.25` is 1.25 s before the epoch.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Some(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Result<Extended, TarError> {
        let mut extended = Extended::default();
        extended.add_pax(data, 0)?;
        Ok(extended)
    }

    #[test]
    fn reads_values_that_hold_newlines_and_equal_signs() {
        let extended = parse(b"31 SCHILY.xattr.user.a=x\ny=z\x00\n\n12 path=a=b\n").unwrap();
        assert_eq!(extended.xattrs[&b"user.a"[..]], b"x\ny=z\0\n");
        assert_eq!(extended.path.unwrap(), b"a=b");
    }

    #[test]
    fn reads_numbers_and_times() {
        let extended = parse(b"19 size=9000000000\n12 uid=1000\n19 mtime=12.000005\n").unwrap();
        assert_eq!((extended.size, extended.uid), (Some(9_000_000_000), Some(1000)));
        assert_eq!(extended.mtime, Some(Timestamp { seconds: 12, nanoseconds: 5000 }));
        assert_eq!(timestamp(b"-1.25"), Some(Timestamp { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(timestamp(b"1.123456789123"), Some(Timestamp { seconds: 1, nanoseconds: 123_456_789 }));
    }

    #[test]
    fn rejects_malformed_records() {
        for data in [
            &b"x"[..],
            b"12 path=a=b",
            b"99 path=a\n",
            b"0 path=a\n",
            b"2 \n",
            b"3 =\n",
            b"9 patha\n\n",
            b"-1 path=a\n",
            b"99999999999999999999999 path=a\n",
            b"10 uid=ab\n",
            b"11 mtime=x\n",
            b"14 mtime=1.x2\n",
            b"12 uid=9999\nX",
        ] {
            assert!(parse(data).is_err(), "{}", String::from_utf8_lossy(data));
        }
    }
}
