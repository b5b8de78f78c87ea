//! Files of the app's root that the engine decides: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`.
//!
//! Written after the switch to the app's root, so nothing an image holds can point outside it; a symbolic link, FIFO
//! or device in a file's place is replaced, not followed.

use std::fmt::Write;

use agent::protocol::Start;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, fstat, open, unlink};
use rustix::io::Errno;

use crate::mounts::{MountError, make_directory};

/// The longest file that [`read_text`] takes in, in bytes; what is beyond is not looked at.
const TEXT_MAX: usize = 1 << 20;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// `/etc` could not be made.
    #[error(transparent)]
    Directory(#[from] MountError),
    /// The file refused.
    #[error("cannot write {path}: {error}")]
    Write {
        /// The file.
        path: &'static str,
        /// The kernel's answer.
        error: Errno,
    },
}

/// Writes the three files.
///
/// # Errors
/// [`FileError`], such as for a full or read-only disk.
pub(crate) fn write_etc(start: &Start) -> Result<(), FileError> {
    make_directory("/etc")?;
    write("/etc/hostname", &format!("{}\n", start.hostname))?;
    write("/etc/hosts", &hosts(start))?;
    if !start.resolv_conf.is_empty() {
        write("/etc/resolv.conf", &start.resolv_conf)?;
    }
    Ok(())
}

fn hosts(start: &Start) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let own = start.network.as_ref().map(|network| (network.address.to_string(), start.hostname.clone()));
    let listed = start.hosts.iter().any(|(_, name)| *name == start.hostname);
    for (address, name) in start.hosts.iter().chain(own.iter().filter(|_| !listed)) {
        writeln!(text, "{address}\t{name}").expect("a String takes all that is written");
    }
    text
}

fn write(path: &'static str, text: &str) -> Result<(), FileError> {
    let failed = |error| FileError::Write { path, error };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let regular = |fd: &_| fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    let file = match open(path, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK, mode) {
        Ok(file) if regular(&file) => file,
        Ok(_) | Err(Errno::LOOP | Errno::NXIO) => {
            unlink(path).map_err(failed)?;
            open(path, flags | OFlags::EXCL, mode).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(failed)?;
        rest = &rest[written..];
    }
    Ok(())
}

/// A small file's text, its first [`TEXT_MAX`] bytes, whatever is not UTF-8 replaced; empty where there is none.
pub(crate) fn read_text(path: &str) -> String {
    let mut bytes = Vec::with_capacity(4096);
    // Without blocking, as the image may have a FIFO here.
    if let Ok(file) = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        while bytes.len() < TEXT_MAX {
            match rustix::io::read(&file, spare_capacity(&mut bytes)) {
                Ok(1..) if bytes.len() == bytes.capacity() => bytes.reserve(4096),
                Ok(1..) | Err(Errno::INTR) => {}
                Ok(0) | Err(_) => break,
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use agent::protocol::{Network, Process, RootDisks};

    use super::*;

    fn start(hosts: &[(&str, &str)]) -> Start {
        Start {
            time_ns: 0,
            hostname: "web".into(),
            root: RootDisks { layers: vec![0], writable: 1 },
            network: Some(Network {
                address: [10, 0, 0, 2].into(),
                prefix: 24,
                gateway: [10, 0, 0, 1].into(),
                mtu: 1500,
            }),
            hosts: hosts.iter().map(|(a, n)| ((*a).to_owned(), (*n).to_owned())).collect(),
            resolv_conf: String::new(),
            process: Process { args: vec![], env: vec![], cwd: "/".into(), user: String::new() },
        }
    }

    #[test]
    fn hosts_hold_localhost_the_given_names_and_the_own_name_once() {
        let head = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(hosts(&start(&[("10.0.0.9", "db")])), format!("{head}10.0.0.9\tdb\n10.0.0.2\tweb\n"));
        assert_eq!(hosts(&start(&[("10.0.0.7", "web")])), format!("{head}10.0.0.7\tweb\n"));
    }

    #[test]
    fn text_is_read_whole_and_a_missing_file_is_empty() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("text");
        let text = "line\n".repeat(5000);
        std::fs::write(&path, &text).expect("written");
        assert_eq!(read_text(path.to_str().expect("utf-8")), text);
        assert_eq!(read_text("/nowhere/file"), "");
    }
}
