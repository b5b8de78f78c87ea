//! A vCPU of KVM under a debugger: the debug registers that KVM keeps for the host (`KVM_SET_GUEST_DEBUG`), so that the
//! guest's memory stays as it is. There are four, of which a KVM without hardware assistance needs one itself.

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_fpu, kvm_guest_debug, kvm_guest_debug_arch, kvm_mp_state,
};

use super::{KvmCpu, KvmError};
use crate::cpu::CpuError;
use crate::cpu::debug::{DebugCpu, DebugState, FXSAVE, Stops, Trap};

/// Addresses that the CPU compares with.
const MOST_BREAKPOINTS: usize = 4;
/// DR7's fixed bit 10.
const DR7_FIXED: u64 = 1 << 10;
/// The local and the global enable bit of DR0, for breakpoints on execution.
const DR7_ENABLE: u64 = 0b11;
/// Offsets in FXSAVE's area (Intel SDM volume 1, section 10.5.1).
const ST: usize = 32;
const XMM: usize = 160;

/// The debug registers for breakpoints at `addresses`, of which only the first four count.
fn debug_registers(addresses: impl Iterator<Item = u64>) -> kvm_guest_debug_arch {
    let mut arch = kvm_guest_debug_arch::default();
    let mut control = DR7_FIXED;
    for (index, address) in addresses.take(MOST_BREAKPOINTS).enumerate() {
        arch.debugreg[index] = address;
        control |= DR7_ENABLE << (2 * index);
    }
    arch.debugreg[7] = control;
    arch
}

impl KvmCpu {
    /// Has KVM stop where the debugger and the repairs want it to.
    pub(super) fn set_breakpoints(&self) -> Result<(), KvmError> {
        let repair = self.repairs.as_ref().and_then(|repairs| repairs.handler());
        let wanted = if self.stops.step { &[][..] } else { &self.stops.breakpoints };
        let arch = debug_registers(repair.into_iter().chain(wanted.iter().copied()));
        let mut control = 0;
        if repair.is_some() || !self.stops.is_empty() {
            control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        }
        if self.stops.step {
            control |= KVM_GUESTDBG_SINGLESTEP;
        }
        let set = |control| self.fd.set_guest_debug(&kvm_guest_debug { control, pad: 0, arch });
        let result = if self.stops.step {
            // Interrupts wait, where KVM knows that (Linux 5.16).
            set(control | KVM_GUESTDBG_BLOCKIRQ).or_else(|_| set(control))
        } else {
            set(control)
        };
        result.map_err(KvmError::call("set a breakpoint"))
    }

    /// What KVM has stopped for, if it was the debugger who wanted that.
    pub(super) fn trap(&self) -> Option<Trap> {
        match &self.stops {
            stops if stops.step => Some(Trap::Step),
            stops if !stops.is_empty() => Some(Trap::Breakpoint),
            _ => None,
        }
    }

    fn wake(&self) -> Result<(), KvmError> {
        let state = self.fd.get_mp_state().map_err(KvmError::call("read the vCPU's state"))?;
        if state.mp_state == KVM_MP_STATE_HALTED {
            let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            self.fd.set_mp_state(runnable).map_err(KvmError::call("set the vCPU's state"))?;
        }
        Ok(())
    }
}

impl DebugCpu for KvmCpu {
    fn most_breakpoints(&self) -> usize {
        MOST_BREAKPOINTS - usize::from(self.repairs.is_some())
    }

    fn registers(&mut self) -> Result<DebugState, CpuError> {
        let regs = self.fd.get_regs().map_err(KvmError::call("read general registers"))?;
        let sregs = self.fd.get_sregs().map_err(KvmError::call("read system registers"))?;
        let fpu = self.fd.get_fpu().map_err(KvmError::call("read FPU registers"))?;
        Ok(DebugState { regs, sregs, fpu: fxsave(&fpu) })
    }

    fn set_registers(&mut self, state: &DebugState) -> Result<(), CpuError> {
        let before = self.registers()?;
        if state.fpu != before.fpu {
            self.fd.set_fpu(&of_fxsave(&state.fpu)).map_err(KvmError::call("set FPU registers"))?;
        }
        if state.regs.rip != before.regs.rip {
            // It goes elsewhere, and so waits no longer.
            self.wake()?;
        }
        self.fd.set_regs(&state.regs).map_err(KvmError::call("set general registers"))?;
        Ok(())
    }

    fn stop_at(&mut self, stops: &Stops) -> Result<(), CpuError> {
        if self.stops != *stops {
            self.stops = stops.clone();
            self.set_breakpoints()?;
        }
        Ok(())
    }

    fn memory_changed(&mut self) {}
}

/// What FXSAVE64 would write.
fn fxsave(fpu: &kvm_fpu) -> [u8; FXSAVE] {
    let mut area = [0; FXSAVE];
    let head = [
        &fpu.fcw.to_le_bytes()[..],
        &fpu.fsw.to_le_bytes(),
        &[fpu.ftwx, 0],
        &fpu.last_opcode.to_le_bytes(),
        &fpu.last_ip.to_le_bytes(),
        &fpu.last_dp.to_le_bytes(),
        &fpu.mxcsr.to_le_bytes(),
    ]
    .concat();
    area[..head.len()].copy_from_slice(&head);
    area[ST..ST + 128].copy_from_slice(fpu.fpr.as_flattened());
    area[XMM..XMM + 256].copy_from_slice(fpu.xmm.as_flattened());
    area
}

fn of_fxsave(area: &[u8; FXSAVE]) -> kvm_fpu {
    fn at<const N: usize>(area: &[u8; FXSAVE], offset: usize) -> [u8; N] {
        area.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }
    kvm_fpu {
        fcw: u16::from_le_bytes(at(area, 0)),
        fsw: u16::from_le_bytes(at(area, 2)),
        ftwx: area[4],
        last_opcode: u16::from_le_bytes(at(area, 6)),
        last_ip: u64::from_le_bytes(at(area, 8)),
        last_dp: u64::from_le_bytes(at(area, 16)),
        mxcsr: u32::from_le_bytes(at(area, 24)),
        fpr: std::array::from_fn(|number| at(area, ST + 16 * number)),
        xmm: std::array::from_fn(|number| at(area, XMM + 16 * number)),
        ..kvm_fpu::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_registers_break_on_execution() {
        let arch = debug_registers([0x1000, 0x2000].into_iter());
        assert_eq!((arch.debugreg[0], arch.debugreg[1], arch.debugreg[7]), (0x1000, 0x2000, 0x40f));
        assert_eq!(debug_registers([1, 2, 3, 4, 5].into_iter()).debugreg, [1, 2, 3, 4, 0, 0, 0, 0x4ff]);
        assert_eq!(debug_registers(std::iter::empty()).debugreg[7], 0x400);
    }

    #[test]
    fn fpu_registers_come_back_as_they_went() {
        let mut fpu =
            kvm_fpu { fcw: 0x37f, fsw: 1, ftwx: 3, last_opcode: 4, last_ip: 5, ..Default::default() };
        (fpu.last_dp, fpu.mxcsr) = (6, 0x1f80);
        (fpu.fpr[7], fpu.xmm[15]) = ([7; 16], [8; 16]);
        let area = fxsave(&fpu);
        assert_eq!((area[24], area[32 + 7 * 16], area[400]), (0x80, 7, 8));
        assert_eq!(of_fxsave(&area), fpu);
    }
}
