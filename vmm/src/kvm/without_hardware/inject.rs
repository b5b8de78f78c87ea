//! Exceptions that a repair makes the guest take, as the instruction that it completes would have.

use kvm_ioctls::{SyncReg, VcpuFd};

use super::super::KvmError;
use crate::cpu::page_walk::PageFault;

/// An exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exception {
    /// `#BP`.
    Breakpoint,
    /// `#NM`.
    DeviceNotAvailable,
    /// `#GP(0)`.
    GeneralProtection,
    /// `#PF`.
    PageFault(PageFault),
    /// `#MF`.
    MathFault,
}

impl Exception {
    fn vector(self) -> u8 {
        match self {
            Self::Breakpoint => 3,
            Self::DeviceNotAvailable => 7,
            Self::GeneralProtection => 13,
            Self::PageFault(_) => 14,
            Self::MathFault => 16,
        }
    }

    fn error_code(self) -> Option<u32> {
        match self {
            Self::GeneralProtection => Some(0),
            Self::PageFault(fault) => Some(fault.error_code),
            _ => None,
        }
    }
}

/// Moves RIP on by `len` bytes; 0 for a fault, whose handler sees the instruction again. Setting the registers also
/// drops the #UD that KVM has queued for the instruction it could not emulate.
pub(super) fn advance(vcpu: &mut VcpuFd, len: usize) -> Result<(), KvmError> {
    let mut regs = vcpu.sync_regs().regs;
    regs.rip = regs.rip.wrapping_add(len as u64);
    vcpu.clear_sync_dirty_reg(SyncReg::Register);
    vcpu.set_regs(&regs).map_err(KvmError::call("set general registers"))
}

/// Lets `exception` happen next.
pub(super) fn raise(vcpu: &VcpuFd, exception: Exception) -> Result<(), KvmError> {
    if let Exception::PageFault(fault) = exception {
        let mut sregs = vcpu.sync_regs().sregs;
        sregs.cr2 = fault.address;
        vcpu.set_sregs(&sregs).map_err(KvmError::call("set system registers"))?;
    }
    let mut events = vcpu.get_vcpu_events().map_err(KvmError::call("read pending events"))?;
    events.exception.injected = 1;
    events.exception.pending = 0;
    events.exception.nr = exception.vector();
    events.exception.has_error_code = u8::from(exception.error_code().is_some());
    events.exception.error_code = exception.error_code().unwrap_or(0);
    vcpu.set_vcpu_events(&events).map_err(KvmError::call("inject an exception"))
}
