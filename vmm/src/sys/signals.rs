//! What signals do to this process.

use std::io;

/// SIGINT, which a terminal sends to all who share it, does nothing from now on.
///
/// # Errors
///
/// What the system call says.
pub(crate) fn ignore_interrupts() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so there is no code that could run at a bad time.
    let before = unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// SIGXFSZ (a file would become longer than RLIMIT_FSIZE) does nothing from now on; the write fails with EFBIG.
///
/// # Errors
///
/// What the system call says.
pub(crate) fn ignore_file_size_signal() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so there is no code that could run at a bad time.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
