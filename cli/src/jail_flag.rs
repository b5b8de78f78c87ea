//! `--no-jail`: a VMM with all the rights of whoever starts it.

/// The flag, for commands that start a virtual machine.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct JailFlag {
    /// Leave the VMM its rights and its view of the host, for debugging
    #[arg(long)]
    no_jail: bool,
}

impl JailFlag {
    /// Whether there is to be a jail; says on standard error what is given up without.
    pub(crate) fn is_on(self) -> bool {
        if self.no_jail {
            eprintln!(
                "carve: --no-jail: a guest that breaks out of its VMM has this user's rights, its files, network and processes, and every system call"
            );
        }
        !self.no_jail
    }
}
