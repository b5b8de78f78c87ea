//! How a guest comes to its end.

use std::fs;
use std::io;

use rustix::system::{RebootCommand, reboot};

/// Whether this word names an ending.
pub(crate) fn is_one(word: &str) -> bool {
    matches!(word, "poweroff" | "reboot" | "panic" | "leave")
}

/// Ends the guest so. Returns for `leave`, where init just exits, upon which the kernel panics.
pub(crate) fn end(how: &str) -> io::Result<()> {
    match how {
        "reboot" => Ok(reboot(RebootCommand::Restart)?),
        "panic" => fs::write("/proc/sysrq-trigger", "c"),
        "leave" => Ok(()),
        _ => Ok(reboot(RebootCommand::PowerOff)?),
    }
}
