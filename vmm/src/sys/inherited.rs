//! Descriptors that a process was started with and knows by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A descriptor of our own for what the descriptor `number` is open on; `number` itself stays as it is.
///
/// # Errors
///
/// There is no such descriptor, or the process may have no more.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC touches no memory and no descriptor that exists; a wrong number is EBADF.
    let own = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if own < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `own`, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_duplicate_outlives_the_original() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let own = duplicate(writer.as_raw_fd()).unwrap();
        drop(writer);
        std::fs::File::from(own).write_all(b"still here").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    }

    #[test]
    fn a_number_without_a_descriptor_is_an_error() {
        for number in [-1, i32::MAX] {
            assert_eq!(duplicate(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}
