//! The control socket of a machine, and what ends the machine.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use vmm::{Control, VmExit, VmProcess};

use crate::exit::Exit;

/// What a machine is called that nobody has named.
pub(super) const NAMELESS: &str = "anonymous-instance";

/// Waits for the end of a machine. One with a control socket is ended properly when this process is interrupted.
///
/// # Errors
/// The guest dies, or the host fails it.
pub(super) fn wait(running: VmProcess, socket: Option<Socket>) -> anyhow::Result<Exit> {
    let ended = match &socket {
        Some(_) => running.wait_unless(interrupts()?)?,
        None => running.wait()?,
    };
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

/// A control socket, which goes when this does.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    id: String,
}

impl Socket {
    /// Listens at `path` for a machine called `id`. What a process that is gone has left there is replaced.
    ///
    /// # Errors
    /// There is something else, or it cannot be made.
    pub(super) fn bind(path: &Path, id: &str) -> anyhow::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            result => result,
        };
        let listener = listener.with_context(|| {
            format!("cannot make the control socket {}; give another --api-sock", path.display())
        })?;
        Ok(Self { listener, path: path.to_owned(), id: id.to_owned() })
    }

    /// What the VMM serves.
    pub(super) fn control(&self) -> Control<'_> {
        Control { listener: &self.listener, id: &self.id }
    }
}

fn is_left_over(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever has removed it already has done no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_one_that_is_served_stays() {
        let dir = std::env::temp_dir().join(format!("carve-serve-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("api");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, NAMELESS).unwrap();
        let error = Socket::bind(&path, NAMELESS).err().unwrap().to_string();
        assert!(error.contains("give another --api-sock"), "{error}");
        drop(socket);
        assert!(!path.exists());
        std::fs::remove_dir(dir).unwrap();
    }
}
