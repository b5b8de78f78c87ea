//! The control socket of a machine, and what ends the machine.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use vmm::{Control, VmExit, VmProcess};

use super::listening::Listening;
use crate::exit::Exit;

/// What a machine is called that nobody has named.
pub(super) const NAMELESS: &str = "anonymous-instance";

/// Waits for the end of a machine. One with sockets of its own is ended properly when this process is interrupted.
///
/// # Errors
/// The guest dies, or the host fails it.
pub(super) fn wait(running: VmProcess, has_sockets: bool) -> anyhow::Result<Exit> {
    let ended = if has_sockets { running.wait_unless(interrupts()?)? } else { running.wait()? };
    match ended {
        VmExit::Reset | VmExit::PoweredOff | VmExit::Stopped => Ok(Exit::Success),
    }
}

/// A descriptor that becomes readable when somebody wants this process to end.
///
/// # Errors
/// The host has no more descriptors.
pub(super) fn interrupts() -> anyhow::Result<UnixStream> {
    let (interrupted, handler) = UnixStream::pair().context("cannot make a pipe for signals")?;
    for signal in [SIGINT, SIGTERM] {
        let handler = handler.try_clone().context("cannot make a pipe for signals")?;
        signal_hook::low_level::pipe::register(signal, handler).context("cannot catch Ctrl-C")?;
    }
    Ok(interrupted)
}

/// A control socket.
pub(super) struct Socket {
    listening: Listening,
    id: String,
}

impl Socket {
    /// Listens at `path` for a machine called `id`.
    ///
    /// # Errors
    /// As for [`Listening::bind`].
    pub(super) fn bind(path: &Path, id: &str) -> anyhow::Result<Self> {
        Ok(Self { listening: Listening::bind(path, "--api-sock")?, id: id.to_owned() })
    }

    /// What the VMM serves.
    pub(super) fn control(&self) -> Control<'_> {
        Control { listener: self.listening.listener(), id: &self.id }
    }
}
