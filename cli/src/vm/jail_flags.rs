//! `--no-jail` and `--jail-root`: how much of the host the VMM of a machine without an image keeps.

use std::path::PathBuf;

use vmm::JailConfig;

use crate::jail_flag::JailFlag;

/// The flags.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct JailFlags {
    #[command(flatten)]
    jail: JailFlag,
    /// The jail's root, where clients of the control socket find files; it belongs to the user that the VMM is to be. Made
    /// if it is not there
    #[arg(long, value_name = "DIR", requires = "api_sock", conflicts_with = "no_jail")]
    jail_root: Option<PathBuf>,
}

impl JailFlags {
    /// The jail of the machine with a number of its own.
    ///
    /// # Errors
    /// The root cannot be used.
    pub(super) fn jail(&self, machine: u32) -> anyhow::Result<Option<JailConfig>> {
        if !self.jail.is_on() {
            return Ok(None);
        }
        let jail = JailConfig::for_machine(machine);
        Ok(Some(match &self.jail_root {
            None => jail,
            Some(root) => jail.with_root(root)?,
        }))
    }

    /// The same of a machine whose files clients will name: without a root for them there is no jail, which is said on
    /// standard error, and the machine's threads only make the system calls that they need if the second value says so.
    ///
    /// # Errors
    /// As for [`Self::jail`].
    pub(super) fn jail_of_described(&self, machine: u32) -> anyhow::Result<(Option<JailConfig>, bool)> {
        if self.jail_root.is_some() {
            return Ok((self.jail(machine)?, true));
        }
        let is_on = self.jail.is_on();
        if is_on {
            eprintln!(
                "carve: clients may name any file of this user's, so this machine has no jail: only the system calls of its threads are filtered; --jail-root DIR puts it into a jail with the files in DIR"
            );
        }
        Ok((None, is_on))
    }
}
