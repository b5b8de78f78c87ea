//! The loop around KVM_RUN.
//!
//! A kick may come between an event in ring 3 and its delivery. If KVM tells of the event, the loop goes on until it is
//! delivered; otherwise new registers would lose it, or worse, meet it. There are two events that KVM does not tell of:
//! a SYSCALL whose page fault is still to come, which shows in the registers, and a breakpoint, behind whose
//! instruction RIP is. There the loop goes on with a short alarm.

use kvm_bindings::{kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::VcpuExit;

use super::super::KvmError;
use super::super::internal_error::InternalError;
use super::super::port_access::port_access;
use super::{Ring3, Ring3State, syscall, tsc};
use crate::cpu::{Action, CpuError, Exit, page_walk};

/// TSC ticks that ring 3 gets to show whether a breakpoint is under way; doubled with each attempt.
const SETTLE_TICKS: u64 = 200_000;
const SETTLE_ATTEMPTS: u32 = 4;

/// How ring 3 ended; the registers are still in KVM.
#[derive(Debug)]
pub(super) enum End {
    /// At a HLT, which should be a handler.
    Handler,
    /// After a SYSCALL, at its target, in ring 3.
    Syscall,
    /// Kicked, or the time was up.
    Kicked,
    /// It accessed the machine.
    Accessed {
        /// What the machine's handler said.
        action: Action,
        /// Ended at a HLT, too.
        at_handler: bool,
    },
}

/// What has happened since the loop began.
#[derive(Debug, Default)]
struct Progress {
    kicked: bool,
    accessed: Option<Action>,
    attempts: u32,
}

impl Progress {
    fn access(&mut self, action: Action) {
        if self.accessed.is_none() || action != Action::Resume {
            self.accessed = Some(action);
        }
    }
}

impl Ring3 {
    /// Runs ring 3 with the registers that are loaded.
    pub(super) fn run(
        &mut self,
        state: &Ring3State,
        until: Option<u64>,
        handler: &mut dyn FnMut(Exit<'_>) -> Action,
    ) -> Result<End, CpuError> {
        let mut progress = Progress::default();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => {
                    return Ok(match progress.accessed {
                        Some(action) => End::Accessed { action, at_handler: true },
                        None => End::Handler,
                    });
                }
                Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => {
                    progress.access(port_access(self.vcpu.get_kvm_run(), handler));
                    self.kicker.exit_at_once();
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    progress.access(handler(Exit::MmioRead { address, data }));
                    self.kicker.exit_at_once();
                }
                Ok(VcpuExit::MmioWrite(address, _)) if self.slots.is_hlt(address) => {
                    let cause = format!(
                        "a program wrote to {address:#x}, where an exception handler of its kernel is"
                    );
                    return Err(self.death(cause, None));
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    progress.access(handler(Exit::MmioWrite { address, data }));
                    self.kicker.exit_at_once();
                }
                Ok(VcpuExit::Intr) => {
                    if let Some(end) = self.interrupted(state, until, &mut progress)? {
                        return Ok(end);
                    }
                }
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    if let Some(end) = self.interrupted(state, until, &mut progress)? {
                        return Ok(end);
                    }
                }
                Err(error) if error.errno() == libc::EINVAL => {
                    return Err(self.death("KVM refused the registers of a program", None));
                }
                Err(error) => return Err(KvmError::call("run the vCPU")(error).into()),
                Ok(VcpuExit::Shutdown) => return Err(self.death("triple fault", None)),
                Ok(VcpuExit::InternalError) => {
                    let failure = InternalError::of(self.vcpu.get_kvm_run());
                    return Err(self.death(failure.cause(), failure.instruction()));
                }
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    let cause = format!("the host's CPU refused the guest's state, reason {reason:#x}");
                    return Err(self.death(cause, None));
                }
                Ok(other) => {
                    let cause = format!("unexpected exit {other:?}");
                    return Err(self.death(cause, None));
                }
            }
        }
    }

    /// KVM_RUN was interrupted. `None` to go on with it.
    fn interrupted(
        &mut self,
        state: &Ring3State,
        until: Option<u64>,
        progress: &mut Progress,
    ) -> Result<Option<End>, KvmError> {
        progress.kicked |= self.kicker.settle();
        if let Some(thread) = &mut self.thread {
            progress.kicked |= thread.take_pending().kicked;
        }
        let sync = self.vcpu.sync_regs();
        if is_event_under_way(&sync.events) {
            return Ok(None);
        }
        if syscall::is_under_way(&state.syscall, &sync.regs, &sync.sregs) {
            return Ok(Some(End::Syscall));
        }
        let now = tsc();
        if progress.attempts < SETTLE_ATTEMPTS && self.is_behind_breakpoint(&sync.regs, &sync.sregs) {
            let soon = now.saturating_add(SETTLE_TICKS << progress.attempts);
            progress.attempts += 1;
            if let Some(thread) = &mut self.thread {
                thread.set_alarm(soon, now)?;
            }
            return Ok(None);
        }
        if let Some(action) = progress.accessed {
            return Ok(Some(End::Accessed { action, at_handler: false }));
        }
        if progress.kicked || until.is_some_and(|until| until <= now) {
            return Ok(Some(End::Kicked));
        }
        // Another signal of the process, or an alarm that was set for something earlier.
        if let (Some(until), Some(thread)) = (until, &mut self.thread) {
            thread.set_alarm(until, now)?;
        }
        Ok(None)
    }

    fn is_behind_breakpoint(&self, regs: &kvm_regs, sregs: &kvm_sregs) -> bool {
        let byte = |back: u64| {
            let mut byte = [0];
            let at = sregs.cs.base.wrapping_add(regs.rip).wrapping_sub(back);
            (page_walk::read(&self.memory, sregs.into(), at, &mut byte) == 1).then_some(byte[0])
        };
        match byte(1) {
            // `int3`
            Some(0xcc) => true,
            // `into`, which is none in 64-bit mode
            Some(0xce) => sregs.cs.l == 0,
            // `int 3`
            Some(0x03) => byte(2) == Some(0xcd),
            _ => false,
        }
    }
}

/// Whether KVM has still to deliver something.
fn is_event_under_way(events: &kvm_vcpu_events) -> bool {
    let exception = events.exception.injected | events.exception.pending;
    let nmi = events.nmi.injected | events.nmi.pending;
    exception | events.interrupt.injected | nmi != 0
}
