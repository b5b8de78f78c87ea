//! The last resort for what cannot be told to the engine: the kernel log, else the console.

use rustix::fs::{Mode, OFlags, open};

/// Writes one line as an error, which reaches the console even when the kernel is told to be quiet.
pub(crate) fn say(text: &str) {
    let line = format!("<3>carve-agent: {text}\n");
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    for path in ["/dev/kmsg", "/dev/console"] {
        let written = open(path, flags, Mode::empty()).and_then(|fd| rustix::io::write(fd, line.as_bytes()));
        if written.is_ok() {
            return;
        }
    }
}
