//! `HOME`: the directory that the container's own /etc/passwd gives the program's user.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::plan::ProcessPlan;
use crate::sys::CStringArray;

/// How much of /etc/passwd is read, in bytes.
const MAX_PASSWD_BYTES: u64 = 1 << 20;

/// The environment with `HOME`, if the plan's has none.
pub(super) fn environment(process: &ProcessPlan) -> Option<CStringArray> {
    let value = |entry: &CString| entry.as_bytes().strip_prefix(b"HOME=").map(<[u8]>::is_empty);
    let env = process.env.strings();
    if env.iter().any(|entry| value(entry) == Some(false)) {
        return None;
    }
    // Runtimes agree on / for a user that nobody knows.
    let home = open().ok().and_then(|file| find(file, process.uid)).unwrap_or_else(|| b"/".to_vec());
    let home = CString::new([b"HOME=".as_slice(), &home].concat()).ok()?;
    let others = env.iter().filter(|entry| value(entry).is_none()).cloned();
    Some(CStringArray::new(others.chain([home]).collect()))
}

/// The container's file: a regular one, and no link of /proc to elsewhere.
fn open() -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = openat2(CWD, "/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The directory of the first line with this user id (passwd(5)).
fn find(passwd: impl Read, uid: u32) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    let lines = BufReader::with_capacity(4096, passwd.take(MAX_PASSWD_BYTES)).split(b'\n');
    lines.map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        (fields.nth(2)? == uid.as_bytes()).then_some(())?;
        fields.nth(2).filter(|home| !home.is_empty()).map(<[u8]>::to_vec)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbroken:0\nempty:x:7:7:::\n\xff\xfe:x:8:8::/h\xff:\n\
        web:x:1000:1000:Web,,:/srv/web:/bin/false";

    #[test]
    fn the_line_of_the_user_tells() {
        let cases: [(u32, Option<&[u8]>); 5] =
            [(0, Some(b"/root")), (1000, Some(b"/srv/web")), (8, Some(b"/h\xff")), (7, None), (100, None)];
        for (uid, home) in cases {
            assert_eq!(find(PASSWD, uid).as_deref(), home, "{uid}");
        }
    }

    #[test]
    fn an_endless_file_is_not_read_to_its_end() {
        assert_eq!(find(io::repeat(b':'), 0), None);
        assert_eq!(find(io::repeat(b'\n'), 0), None);
    }
}
