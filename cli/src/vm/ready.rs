//! A guest whose init is the agent, with nobody who has an app for it: enough of the engine that the agent gets ready.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use agent::kernel::{MARK_VARIABLE, READY_MARK};
use agent::protocol::ENGINE_PORT;
use anyhow::Context;
use vmm::{SerialConfig, VmConfig, VsockConfig};

/// The least context id that a guest can have.
const CID: u32 = 3;

/// The socket that the agent calls. Nobody reads there: what the agent says first fits into the socket's buffer.
#[derive(Debug)]
pub(super) struct Callee {
    dir: PathBuf,
    _listener: UnixListener,
}

impl Callee {
    /// Makes the socket, and of `config` the machine that an engine gives an agent, which ends when the agent is ready.
    ///
    /// # Errors
    /// The directory for temporary files is not writable.
    pub(super) fn prepare(config: &mut VmConfig) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("carve-profile-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}; set TMPDIR", dir.display()))?;
        let uds_path = dir.join("vsock");
        let path = dir.join(format!("vsock_{ENGINE_PORT}"));
        let listener = UnixListener::bind(&path);
        let listener = listener.with_context(|| format!("cannot listen on {}", path.display()))?;
        config.vsock = Some(VsockConfig::new(CID, uds_path));
        config.serial = SerialConfig::None;
        config.stop_at_mark = Some(READY_MARK);
        config.own_kernel = true;
        config.cmdline = format!("{MARK_VARIABLE}=1 {}", config.cmdline);
        Ok(Self { dir, _listener: listener })
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_can_call_and_the_user_has_the_last_word() {
        let mut config = VmConfig::new("vmlinux", 128);
        config.cmdline = "loglevel=7".to_owned();
        let callee = Callee::prepare(&mut config).expect("made");
        let vsock = config.vsock.expect("a socket device");
        let called = format!("{}_{ENGINE_PORT}", vsock.uds_path.display());
        std::os::unix::net::UnixStream::connect(&called).expect("somebody listens");
        assert!(config.cmdline.ends_with(" loglevel=7"), "{}", config.cmdline);
        drop(callee);
        assert!(!std::path::Path::new(&called).exists());
    }
}
