//! Has KVM report the guest's set-up of system calls.
//!
//! KVM takes about ten milliseconds for that, in which it waits for itself. The guest starts meanwhile; once the watch
//! holds, each vCPU is kicked and looks whether the guest has set system calls up already.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kvm_ioctls::VmFd;

use super::super::KvmError;
use super::syscall;
use crate::cpu::Kick;

/// Stack of the waiting thread in bytes.
const STACK: usize = 64 << 10;

/// The watch over a machine, which is set up once for all of its vCPUs.
#[derive(Debug)]
pub(in crate::kvm) struct Watched {
    machine: Arc<VmFd>,
    holds: Mutex<bool>,
}

impl Watched {
    /// A machine that is not watched yet.
    pub(in crate::kvm) fn new(machine: Arc<VmFd>) -> Self {
        Self { machine, holds: Mutex::new(false) }
    }

    /// Sets the watch up, or waits for whoever does.
    fn set_up(&self) -> Result<(), KvmError> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if !*holds {
            syscall::watch_syscall_msrs(&self.machine)?;
            *holds = true;
        }
        Ok(())
    }
}

/// A vCPU's part in a watch that is being set up.
#[derive(Debug)]
pub(in crate::kvm) struct SyscallWatch(Mutex<Receiver<Result<(), KvmError>>>);

impl SyscallWatch {
    /// Begins to set the watch up, and kicks the vCPU when it holds.
    ///
    /// # Errors
    /// The host gives no thread.
    pub(in crate::kvm) fn begin(machine: Arc<Watched>, vcpu: Arc<dyn Kick>) -> Result<Self, KvmError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let body = move || {
            // Nobody listens any more when the guest has ended meanwhile.
            let _ = sender.send(machine.set_up());
            if let Err(error) = vcpu.kick() {
                tracing::error!(%error, "cannot kick the vCPU");
            }
        };
        let builder = thread::Builder::new().name("syscall-watch".into()).stack_size(STACK);
        builder.spawn(body).map_err(KvmError::call("watch system call set-up"))?;
        Ok(Self(Mutex::new(receiver)))
    }

    /// Whether the watch holds by now.
    ///
    /// # Errors
    /// KVM cannot watch.
    pub(in crate::kvm) fn holds(&self) -> Result<bool, KvmError> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(result) => result.map(|()| true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => {
                Err(KvmError::Repair("the thread that watches system call set-up has died".into()))
            }
        }
    }
}
