//! One vCPU: registers, extended state, local APIC, model-specific registers, pending events.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use crate::cpu::Saved;
use crate::kvm::KvmError;

const WHAT: &str = "a vCPU";
/// The time-stamp counter.
const TSC: u32 = 0x10;
/// The local APIC's deadline: takes effect only when the APIC and the TSC are in place.
const TSC_DEADLINE: u32 = 0x6e0;

/// The state of a vCPU.
#[derive(Serialize, Deserialize)]
pub(in crate::kvm) struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    tsc_khz: u32,
    msrs: Vec<(u32, u64)>,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
}

impl VcpuState {
    /// Reads the state of `vcpu`, which is paused, with those of `msrs` that can be read.
    pub(in crate::kvm) fn get(vcpu: &VcpuFd, msrs: &[u32]) -> Result<Self, KvmError> {
        let cpuid = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES);
        Ok(Self {
            // First: KVM settles what an exit has left to do.
            mp_state: vcpu.get_mp_state().map_err(KvmError::call("read the vCPU's state"))?,
            cpuid: cpuid.map_err(KvmError::call("read the vCPU's CPUID"))?.as_slice().to_vec(),
            tsc_khz: vcpu.get_tsc_khz().map_err(KvmError::call("tell the TSC's frequency"))?,
            regs: vcpu.get_regs().map_err(KvmError::call("read general registers"))?,
            sregs: vcpu.get_sregs().map_err(KvmError::call("read system registers"))?,
            xsave: vcpu.get_xsave().map_err(KvmError::call("read the extended state"))?,
            xcrs: vcpu.get_xcrs().map_err(KvmError::call("read extended control registers"))?,
            debug: vcpu.get_debug_regs().map_err(KvmError::call("read debug registers"))?,
            lapic: vcpu.get_lapic().map_err(KvmError::call("read the local APIC"))?,
            msrs: readable_msrs(vcpu, msrs)?,
            events: vcpu.get_vcpu_events().map_err(KvmError::call("read pending events"))?,
        })
    }

    /// Puts the state into `vcpu`, which has not run yet; its TSC has gone on for `elapsed_ns`.
    pub(in crate::kvm) fn set(&self, vcpu: &VcpuFd, elapsed_ns: u64) -> Result<(), KvmError> {
        let cpuid = CpuId::from_entries(&self.cpuid)
            .map_err(|error| KvmError::State { what: WHAT, problem: format!("CPUID: {error:?}") })?;
        vcpu.set_cpuid2(&cpuid).map_err(KvmError::call("set CPUID"))?;
        self.check_tsc(vcpu)?;
        vcpu.set_mp_state(self.mp_state).map_err(KvmError::call("set the vCPU's state"))?;
        vcpu.set_regs(&self.regs).map_err(KvmError::call("set general registers"))?;
        vcpu.set_sregs(&self.sregs).map_err(KvmError::call("set system registers"))?;
        vcpu.set_xcrs(&self.xcrs).map_err(KvmError::call("set extended control registers"))?;
        set_xsave(vcpu, &self.xsave)?;
        vcpu.set_debug_regs(&self.debug).map_err(KvmError::call("set debug registers"))?;
        vcpu.set_lapic(&self.lapic).map_err(KvmError::call("set the local APIC"))?;
        let ticks = u128::from(elapsed_ns) * u128::from(self.tsc_khz) / 1_000_000;
        set_msrs(vcpu, &self.msrs, u64::try_from(ticks).unwrap_or(u64::MAX))?;
        vcpu.set_vcpu_events(&self.events).map_err(KvmError::call("set pending events"))?;
        // Tells the guest that it stood still, so that its watchdogs are calm. A guest without that clock has no need.
        let _ = vcpu.kvmclock_ctrl();
        Ok(())
    }

    /// A guest that has measured its TSC must find it as fast as it was, to a quarter of a thousandth: more than that is
    /// more than NTP can correct.
    fn check_tsc(&self, vcpu: &VcpuFd) -> Result<(), KvmError> {
        let khz = vcpu.get_tsc_khz().map_err(KvmError::call("tell the TSC's frequency"))?;
        if khz.abs_diff(self.tsc_khz) <= self.tsc_khz / 4000 {
            return Ok(());
        }
        vcpu.set_tsc_khz(self.tsc_khz).map_err(|_| KvmError::State {
            what: WHAT,
            problem: format!(
                "its TSC ran at {} kHz, the one here runs at {khz} and cannot be scaled",
                self.tsc_khz
            ),
        })
    }

    /// As JSON.
    pub(in crate::kvm) fn write(&self) -> Result<Saved, KvmError> {
        super::write(WHAT, self)
    }

    /// From JSON.
    pub(in crate::kvm) fn parse(saved: &Saved) -> Result<Self, KvmError> {
        super::parse(WHAT, saved)
    }
}

/// Reads those of `indices` that can be read: KVM lists some that this CPU does not have.
fn readable_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, KvmError> {
    let mut values = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while !rest.is_empty() {
        let entries: Vec<_> =
            rest.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut msrs = list(&entries)?;
        let count = vcpu.get_msrs(&mut msrs).map_err(KvmError::call("read model-specific registers"))?;
        values.extend(msrs.as_slice().iter().take(count).map(|entry| (entry.index, entry.data)));
        rest = rest.get(count + 1..).unwrap_or_default();
    }
    Ok(values)
}

/// Writes registers, the TSC `ticks` later, the deadline of the local APIC last. One that the host refuses is left as
/// it is if it is zero, the value after reset.
fn set_msrs(vcpu: &VcpuFd, values: &[(u32, u64)], ticks: u64) -> Result<(), KvmError> {
    let entry = |&(index, data): &(u32, u64)| {
        let data = if index == TSC { data.wrapping_add(ticks) } else { data };
        kvm_msr_entry { index, data, ..Default::default() }
    };
    let mut entries: Vec<_> = values.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.index == TSC_DEADLINE);
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let count = vcpu.set_msrs(&list(rest)?).map_err(KvmError::call("write model-specific registers"))?;
        match rest.get(count) {
            Some(refused) if refused.data != 0 => {
                let what = format!("the model-specific register {:#x} of the snapshot", refused.index);
                return Err(KvmError::Lacks { what });
            }
            _ => rest = rest.get(count + 1..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn list(entries: &[kvm_msr_entry]) -> Result<Msrs, KvmError> {
    Msrs::from_entries(entries)
        .map_err(|error| KvmError::State { what: WHAT, problem: format!("its registers: {error:?}") })
}

fn set_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> Result<(), KvmError> {
    // SAFETY: the guest was not given features by arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM), so the state KVM reads is no
    // larger than `kvm_xsave`.
    unsafe { vcpu.set_xsave(xsave) }.map_err(KvmError::call("set the extended state"))
}
