//! `--no-jail`: a VMM with all the rights of whoever starts it.

use vmm::JailConfig;

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

    /// Whether the threads of a machine that stays in this process are to make only the system calls they need; says on
    /// standard error what is given up. Such a machine opens files while it runs, so it has no jail.
    pub(crate) fn is_on_while_files_are_opened(self) -> bool {
        let is_on = self.is_on();
        if is_on {
            eprintln!(
                "carve: this machine opens files while it runs, so it has no jail: only the system calls of its threads are filtered; `carve vm boot` without a control socket has one"
            );
        }
        is_on
    }

    /// The jail of the machine with a number of its own.
    pub(crate) fn jail(self, machine: u32) -> Option<JailConfig> {
        self.is_on().then(|| JailConfig::for_machine(machine))
    }
}
