//! Extended attributes: which ones a layer may carry, and their form after an inode.

use std::collections::BTreeMap;

use super::format::u16_at;

/// Attributes of one inode, by full name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Most bytes of encoded attributes an inode may have; Linux's own limit is 64 KiB a value and 64 KiB of names.
const MAX_BYTES: usize = 128 << 10;
/// Bytes before the first entry (`erofs_xattr_ibody_header`).
const HEADER: usize = 12;
/// Bytes of an entry before its name.
const ENTRY: usize = 4;

/// Name prefixes and their on-disk indexes (`EROFS_XATTR_INDEX_*`).
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The mark of a directory that hides the same directory in the layers below.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// Keeps what a layer may set. Dropped are namespaces that EROFS has no index for, and overlayfs's own
/// attributes: those are instructions to the overlay that will be mounted (redirects, data elsewhere), which
/// an archive has no business to give.
pub(super) fn allowed(xattrs: Xattrs) -> Xattrs {
    let is_overlay =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    xattrs.into_iter().filter(|(name, _)| split_name(name).is_some() && !is_overlay(name)).collect()
}

/// The attributes as they follow the inode; empty if there are none. None if they are too big.
pub(super) fn encode(xattrs: &Xattrs) -> Option<Vec<u8>> {
    if xattrs.is_empty() {
        return Some(Vec::new());
    }
    // The name filter, the number of shared attributes and the reserved bytes are all zero.
    let mut bytes = vec![0; HEADER];
    for (name, value) in xattrs {
        let (index, rest) = split_name(name)?;
        bytes.push(u8::try_from(rest.len()).ok()?);
        bytes.push(index);
        bytes.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(ENTRY), 0);
        if bytes.len() > MAX_BYTES {
            return None;
        }
    }
    Some(bytes)
}

/// The reverse of [`encode`]; none if `bytes` break the format.
pub(super) fn decode(bytes: &[u8]) -> Option<Xattrs> {
    let mut xattrs = Xattrs::new();
    let mut rest = bytes.get(HEADER..)?;
    while rest.len() >= ENTRY {
        let (name_length, index) = (usize::from(rest[0]), rest[1]);
        let value_length = usize::from(u16_at(rest, 2));
        let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == index)?;
        let name = rest.get(ENTRY..ENTRY + name_length)?;
        let value = rest.get(ENTRY + name_length..ENTRY + name_length + value_length)?;
        xattrs.insert([*prefix, name].concat(), value.to_vec());
        let length = (ENTRY + name_length + value_length).next_multiple_of(ENTRY);
        rest = rest.get(length..)?;
    }
    Some(xattrs)
}

/// The prefix's index and what follows it.
fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        // The two ACL attributes are whole names, the others are prefixes of one.
        (rest.is_empty() == prefix.starts_with(b"system.") && !rest.contains(&0)).then_some((*index, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(pairs: &[(&str, &[u8])]) -> Xattrs {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn attributes_round_trip() {
        let set = xattrs(&[
            ("user.a", b""),
            ("security.capability", b"\x01\x00\x00\x02\x0a\x00"),
            ("system.posix_acl_access", b"acl"),
            ("trusted.x", b"12345"),
        ]);
        let bytes = encode(&set).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(decode(&bytes), Some(set));
        assert_eq!(encode(&Xattrs::new()), Some(Vec::new()));
    }

    #[test]
    fn an_archive_cannot_give_overlay_instructions() {
        let kept = allowed(xattrs(&[
            ("trusted.overlay.redirect", b"/etc"),
            ("trusted.overlay.opaque", b"y"),
            ("user.overlay.metacopy", b""),
            ("com.apple.quarantine", b"x"),
            ("system.nfs4_acl", b"x"),
            ("user.", b"x"),
            ("user.kept", b"x"),
        ]));
        assert_eq!(kept, xattrs(&[("user.kept", b"x")]));
    }

    #[test]
    fn too_big_is_refused() {
        assert_eq!(encode(&xattrs(&[("user.a", &[0; 70_000])])), None);
        let long_name = format!("user.{}", "n".repeat(256));
        assert_eq!(encode(&xattrs(&[(&long_name, b"")])), None);
    }

    #[test]
    fn broken_bytes_are_refused() {
        for bytes in [&[0; 11][..], &[0; 16], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
