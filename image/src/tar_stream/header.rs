//! From a 512-byte header, and what extended headers said before it, to an [`Entry`].

use tar::Header;

use super::pax::Extended;
use super::{BLOCK, Entry, EntryKind, TarError, Timestamp};

/// The header in `block`, if its checksum fits.
pub(super) fn checked(block: &[u8; BLOCK], offset: u64) -> Result<&Header, TarError> {
    let header = Header::from_byte_slice(block);
    // The sum of all bytes, with the checksum field itself (148..156) read as spaces.
    let sum = block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]).map(|&b| u32::from(b)).sum::<u32>();
    match header.cksum() {
        Ok(stored) if stored == sum => Ok(header),
        _ => Err(TarError::Checksum { offset }),
    }
}

/// The error for a field that cannot be read.
pub(super) fn bad_field(field: &'static str, header: &Header) -> TarError {
    TarError::Field { field, path: printable(&header.path_bytes()) }
}

/// Joins `header` with what `extended` says about the same entry.
pub(super) fn entry(header: &Header, extended: Extended) -> Result<Entry, TarError> {
    let bad = |field| bad_field(field, header);
    let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
    if extended.sparse {
        return Err(unsupported(&path, "a sparse file"));
    }
    let kind = kind(header, &path)?;
    let declared = match extended.size {
        Some(size) => size,
        None => header.entry_size().map_err(|_| bad("size"))?,
    };
    // Only files and hard links may carry data; other kinds sometimes state a size and have none.
    let size = if matches!(kind, EntryKind::File | EntryKind::HardLink) { declared } else { 0 };
    let link = extended.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
    let mode = header.mode().map_err(|_| bad("mode"))? & 0o7777;
    let owner = |extended: Option<u32>, field, value: std::io::Result<u64>| match extended {
        Some(id) => Ok(id),
        None => value.ok().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad(field)),
    };
    let device = match kind {
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            let number =
                |n: std::io::Result<Option<u32>>| n.ok().flatten().ok_or_else(|| bad("device number"));
            (number(header.device_major())?, number(header.device_minor())?)
        }
        _ => (0, 0),
    };
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        // A blank field is the epoch; a binary number is two's complement.
        None => Timestamp { seconds: header.mtime().map_or(0, u64::cast_signed), nanoseconds: 0 },
    };
    Ok(Entry {
        path,
        kind,
        size,
        mode: u16::try_from(mode).map_err(|_| bad("mode"))?,
        uid: owner(extended.uid, "user id", header.uid())?,
        gid: owner(extended.gid, "group id", header.gid())?,
        mtime,
        link,
        device,
        xattrs: extended.xattrs,
    })
}

fn kind(header: &Header, path: &[u8]) -> Result<EntryKind, TarError> {
    Ok(match header.entry_type().as_byte() {
        // The v7 format knows a directory by the slash at its end.
        b'0' | 0 if path.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'S' => return Err(unsupported(path, "a sparse file")),
        b'M' => return Err(unsupported(path, "a part of a multi-volume archive")),
        other => return Err(unsupported(path, &format!("of type {:?}", char::from(other)))),
    })
}

fn unsupported(path: &[u8], what: &str) -> TarError {
    TarError::Unsupported { path: printable(path), what: what.to_owned() }
}

/// At most 200 bytes of `path`, for messages.
pub(super) fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}
