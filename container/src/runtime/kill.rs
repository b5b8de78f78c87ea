//! `kill`: sends a signal.

use rustix::io::Errno;
use std::os::fd::AsFd;

use super::error::RuntimeError;
use super::store::Entry;
use crate::sys;

/// The names of signals 1 to 31, without SIG (signal(7), x86).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first and the last real-time signal as programs see them; the kernel's first two are the C library's.
const REAL_TIME: [i32; 2] = [34, 64];

/// The number of a signal that is given by number or name, `SIG` in front or not, in any case; real-time ones as `RTMIN+1`
/// or `RTMAX-1`.
///
/// # Errors
/// When there is no such signal.
pub fn parse_signal(word: &str) -> Result<i32, RuntimeError> {
    let unknown = || RuntimeError::UnknownSignal { name: word.to_owned() };
    if let Ok(number) = word.parse::<i32>() {
        return (1..=REAL_TIME[1]).contains(&number).then_some(number).ok_or_else(unknown);
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name {
        "IOT" => Some(6),
        "POLL" => Some(29),
        "CLD" => Some(17),
        _ => NAMES.iter().position(|known| *known == name).and_then(|index| i32::try_from(index + 1).ok()),
    };
    number.or_else(|| real_time(name)).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let [first, last] = REAL_TIME;
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (first, offset),
        (_, Some(offset)) => (last, offset),
        _ => return None,
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    base.checked_add(offset).filter(|number| (first..=last).contains(number))
}

/// Sends it to the first process, or to all. A killed first process takes the others along only if it is the first of
/// their pid namespace; else they are killed with it.
pub(super) fn kill(entry: &Entry, signal: i32, all: bool) -> Result<(), RuntimeError> {
    let not_running = || RuntimeError::NotRunning { id: entry.id.clone() };
    let record = entry.record()?.ok_or_else(not_running)?;
    let cgroup = entry.cgroup(&record)?;
    if all && !cgroup.is_empty() {
        return Ok(cgroup.signal_all(signal)?);
    }
    let init = record.init.ok_or_else(not_running)?;
    let pidfd = init.open()?.ok_or_else(not_running)?;
    let alone = signal == libc::SIGKILL && !init.is_first_of_its_namespace();
    match sys::send_signal(pidfd.as_fd(), signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Err(not_running()),
        Err(errno) => return Err(RuntimeError::file(format!("process {}", init.pid), errno)),
    }
    if alone {
        cgroup.kill_all()?;
    }
    if signal == libc::SIGKILL {
        // Also one that is paused.
        cgroup.let_die();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (word, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("SYS", 31),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(word).unwrap(), number, "{word}");
        }
        for word in ["", "0", "65", "-1", "SIG", "KILLER", "RTMIN-1", "RTMAX+1", "RTMIN+x", "SIGSIGKILL"] {
            assert!(matches!(parse_signal(word), Err(RuntimeError::UnknownSignal { .. })), "{word}");
        }
    }
}
