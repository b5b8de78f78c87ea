//! Has KVM report the guest's set-up of system calls.
//!
//! KVM takes about ten milliseconds for that, in which it waits for itself. The guest starts meanwhile; once the watch
//! holds, its vCPUs are kicked, and each looks whether the guest has set system calls up already.

use std::sync::OnceLock;

use kvm_ioctls::VmFd;

use super::super::KvmError;
use super::syscall;

/// The watch of one machine.
#[derive(Debug, Default)]
pub(in crate::kvm) struct SyscallWatch(OnceLock<Result<(), String>>);

impl SyscallWatch {
    /// Sets the watch up, which takes its time. What KVM says is told to the vCPUs, whoever calls this.
    pub(in crate::kvm) fn set_up(&self, machine: &VmFd) {
        self.0.get_or_init(|| syscall::watch_syscall_msrs(machine).map_err(|error| error.to_string()));
    }

    /// Whether the watch holds by now.
    ///
    /// # Errors
    /// KVM cannot watch.
    pub(in crate::kvm) fn holds(&self) -> Result<bool, KvmError> {
        match self.0.get() {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(reason)) => Err(KvmError::Repair(reason.clone())),
        }
    }
}
