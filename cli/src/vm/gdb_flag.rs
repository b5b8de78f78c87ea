//! `--gdb`: a debugger says when the guest goes on.

use std::path::PathBuf;

use super::listening::Listening;

/// The flag.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GdbFlag {
    /// Wait before the guest's first instruction for gdb to connect to this socket, which is made:
    /// `gdb vmlinux -ex 'target remote PATH'`. Whoever can connect owns the guest. As long as there are breakpoints,
    /// the software engine interprets programs too; their floating point it cannot stop in
    #[arg(long, value_name = "PATH")]
    gdb: Option<PathBuf>,
}

impl GdbFlag {
    /// Listens where the flag says, and says so on standard error.
    ///
    /// # Errors
    /// As for [`Listening::bind`].
    pub(super) fn listen(&self) -> anyhow::Result<Option<Listening>> {
        let Some(path) = &self.gdb else { return Ok(None) };
        let listening = Listening::bind(path, "--gdb")?;
        eprintln!(
            "carve: the guest waits for a debugger: gdb -ex 'target remote {}' VMLINUX",
            path.display()
        );
        Ok(Some(listening))
    }
}
