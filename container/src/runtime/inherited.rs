//! Descriptors of the command that the program gets: `--preserve-fds`, and the sockets of socket activation.

use std::env;
use std::fs;
use std::io;
use std::process;

use oci_spec::runtime::Process;

use super::error::RuntimeError;

/// The first descriptor that is no standard stream.
const FIRST: u32 = 3;

/// How many descriptors from 3 up the program gets, under the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Those that `LISTEN_FDS` counts (sd_listen_fds(3)); they come first.
    listening: u32,
    preserved: u32,
}

impl Inherited {
    /// The sockets that this process was given to listen on, and `preserve` descriptors after them.
    ///
    /// To be called before this process opens any descriptor of its own, which could be taken for one of them.
    ///
    /// # Errors
    /// When one of them is not open.
    pub fn claim(preserve: u32) -> Result<Self, RuntimeError> {
        let claimed = Self { listening: listening(), preserved: preserve };
        let missing = (FIRST..FIRST.saturating_add(claimed.count()))
            .find(|fd| fs::symlink_metadata(link(*fd)).is_err());
        match missing {
            Some(fd) => {
                let reason = "is not open; --preserve-fds and LISTEN_FDS count descriptors from 3 up";
                Err(RuntimeError::file(link(fd), io::Error::other(reason)))
            }
            None => Ok(claimed),
        }
    }

    /// How many there are.
    pub(super) fn count(self) -> u32 {
        self.listening.saturating_add(self.preserved)
    }

    /// Tells the program of the sockets.
    pub(super) fn announce(self, process: &mut Process) {
        if self.listening > 0 {
            let mut env = process.env().clone().unwrap_or_default();
            env.extend([format!("LISTEN_FDS={}", self.listening), "LISTEN_PID=1".to_owned()]);
            process.set_env(Some(env));
        }
    }
}

fn link(fd: u32) -> String {
    format!("/proc/self/fd/{fd}")
}

/// What the environment says, if it says it to this process.
fn listening() -> u32 {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid != process::id() => 0,
        _ => number("LISTEN_FDS").unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_cannot_be_inherited() {
        assert_eq!(Inherited::claim(0).unwrap().count(), 0);
        let error = Inherited::claim(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("is not open"), "{error}");
    }

    #[test]
    fn sockets_are_announced_in_the_environment() {
        let mut process = Process::default();
        process.set_env(Some(vec!["A=b".to_owned()]));
        Inherited { listening: 0, preserved: 2 }.announce(&mut process);
        assert_eq!(process.env().as_ref().unwrap(), &["A=b"]);
        Inherited { listening: 2, preserved: 1 }.announce(&mut process);
        assert_eq!(process.env().as_ref().unwrap(), &["A=b", "LISTEN_FDS=2", "LISTEN_PID=1"]);
    }
}
