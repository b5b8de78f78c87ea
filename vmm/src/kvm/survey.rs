//! What this host's KVM is and can, for a report.

use kvm_ioctls::Cap;

use super::machine::KvmMachine;
use super::{Host, KvmError};

/// What hosts differ in, beyond [`super::REQUIRED`], by the names of KVM's documentation (`api.rst`).
const DIFFERENT: [(Cap, &str); 11] = [
    (Cap::SyncRegs, "SYNC_REGS"),
    (Cap::SplitIrqchip, "SPLIT_IRQCHIP"),
    (Cap::TscControl, "TSC_CONTROL"),
    (Cap::TscDeadlineTimer, "TSC_DEADLINE_TIMER"),
    (Cap::AdjustClock, "ADJUST_CLOCK"),
    (Cap::Xsave2, "XSAVE2"),
    (Cap::NestedState, "NESTED_STATE"),
    (Cap::SetGuestDebug, "SET_GUEST_DEBUG"),
    (Cap::X86UserSpaceMsr, "X86_USER_SPACE_MSR"),
    (Cap::X86MsrFilter, "X86_MSR_FILTER"),
    (Cap::DirtyLogRing, "DIRTY_LOG_RING"),
];

/// What this host's KVM is and can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmSurvey {
    /// Capabilities, and whether it has them.
    pub capabilities: Vec<(&'static str, bool)>,
    /// How many model-specific registers it saves and puts back.
    pub saved_msrs: usize,
    /// Whether it emulates guests' kernels, so that they need repairs.
    pub emulates_kernels: bool,
}

impl KvmSurvey {
    /// Asks KVM, also by a guest of two instructions.
    ///
    /// # Errors
    /// It is absent, forbidden, or lacks what a machine is made of.
    pub fn take() -> Result<Self, KvmError> {
        let host = Host::open()?;
        let has = |(capability, name)| (name, host.kvm.check_extension(capability));
        Ok(Self {
            capabilities: DIFFERENT.into_iter().map(has).collect(),
            saved_msrs: host.saved_msrs()?.len(),
            emulates_kernels: KvmMachine::create(&host)?.needs_repairs()?,
        })
    }
}
