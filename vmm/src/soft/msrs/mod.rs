//! The model-specific registers: those that do something, those that only keep what is written ([`plain`]), and those of
//! the local APIC, which the interrupt controllers have.
//!
//! Numbers: Intel SDM volume 4, AMD APM volume 2 appendix A, Linux `arch/x86/include/asm/msr-index.h` and
//! `Documentation/virt/kvm/x86/msr.rst`.

mod plain;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::cpu::{Cpu, FS, GS};
use super::interrupts::Controllers;
use super::mmu::walk::is_canonical;
use super::pvclock;
use super::step::{Step, Stop};
use crate::cpu::control_bits::{CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE};
use plain::Plain;

const TSC: u32 = 0x10;
const KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;
const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const FMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

/// Bit of [`KVM_SYSTEM_TIME`]: the address is in use.
const ENABLED: u64 = 1;

/// The registers.
#[derive(Debug, Default)]
pub(crate) struct Msrs {
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) fmask: u64,
    /// What SWAPGS exchanges with the base of GS.
    pub(crate) kernel_gs_base: u64,
    /// What RDTSCP returns besides the time.
    pub(crate) tsc_aux: u32,
    wall_clock: u64,
    system_time: u64,
    /// Of the last structure about time that was written to the guest's memory.
    time_version: u32,
    plain: Plain,
}

/// The registers in a snapshot. Those of the local APIC are in its state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MsrState {
    star: u64,
    lstar: u64,
    cstar: u64,
    fmask: u64,
    kernel_gs_base: u64,
    tsc_aux: u32,
    wall_clock: u64,
    system_time: u64,
    time_version: u32,
    /// Number and value.
    plain: Vec<(u32, u64)>,
}

impl Msrs {
    /// All values.
    pub(crate) fn save(&self) -> MsrState {
        let Self {
            star,
            lstar,
            cstar,
            fmask,
            kernel_gs_base,
            tsc_aux,
            wall_clock,
            system_time,
            time_version,
            plain,
        } = self;
        MsrState {
            star: *star,
            lstar: *lstar,
            cstar: *cstar,
            fmask: *fmask,
            kernel_gs_base: *kernel_gs_base,
            tsc_aux: *tsc_aux,
            wall_clock: *wall_clock,
            system_time: *system_time,
            time_version: *time_version,
            plain: plain.values().collect(),
        }
    }

    /// Puts saved values back; whether the registers take them, as far as the guest could have written them.
    pub(crate) fn restore(&mut self, state: &MsrState) -> bool {
        let addresses = [state.lstar, state.cstar, state.kernel_gs_base];
        (self.star, self.fmask, self.tsc_aux) = (state.star, state.fmask, state.tsc_aux);
        [self.lstar, self.cstar, self.kernel_gs_base] = addresses;
        (self.wall_clock, self.system_time) = (state.wall_clock, state.system_time);
        self.time_version = state.time_version;
        addresses.iter().all(|address| is_canonical(*address))
            && state.plain.iter().all(|(index, value)| self.plain.write(*index, *value))
    }
}

impl Cpu {
    /// Reads MSR `index`.
    ///
    /// # Errors
    /// General protection: there is none.
    pub(crate) fn read_msr(&mut self, index: u32) -> Step<u64> {
        let system = &self.system;
        let msrs = &system.msrs;
        Ok(match index {
            FS_BASE => self.bases[usize::from(FS)],
            GS_BASE => self.bases[usize::from(GS)],
            KERNEL_GS_BASE => msrs.kernel_gs_base,
            EFER => self.mmu.paging.efer,
            STAR => msrs.star,
            LSTAR => msrs.lstar,
            CSTAR => msrs.cstar,
            FMASK => msrs.fmask,
            TSC_AUX => msrs.tsc_aux.into(),
            TSC => system.clock.tsc(),
            KVM_WALL_CLOCK => msrs.wall_clock,
            KVM_SYSTEM_TIME => msrs.system_time,
            _ if Controllers::owns_msr(index) => {
                let tsc = system.clock.tsc();
                let controllers = system.controllers.as_ref();
                match controllers.and_then(|controllers| controllers.read_msr(index, tsc).ok()) {
                    Some(value) => value,
                    None => return self.protection(),
                }
            }
            _ => match msrs.plain.read(index) {
                Some(value) => value,
                None => return self.protection(),
            },
        })
    }

    /// Writes MSR `index`. `Ok` says that nobody needs to look at what has changed.
    ///
    /// # Errors
    /// General protection: there is none, or it does not take that value. [`Stop::Done`]: it is written, and paging or
    /// interrupts have changed.
    pub(crate) fn write_msr(&mut self, index: u32, value: u64) -> Step {
        let holds_address = matches!(index, FS_BASE | GS_BASE | KERNEL_GS_BASE | LSTAR | CSTAR);
        if holds_address && !is_canonical(value) {
            return self.protection();
        }
        let msrs = &mut self.system.msrs;
        match index {
            FS_BASE => self.bases[usize::from(FS)] = value,
            GS_BASE => self.bases[usize::from(GS)] = value,
            KERNEL_GS_BASE => msrs.kernel_gs_base = value,
            EFER => return self.write_efer(value),
            STAR => msrs.star = value,
            LSTAR => msrs.lstar = value,
            CSTAR => msrs.cstar = value,
            FMASK | TSC_AUX => match (u32::try_from(value), index) {
                (Ok(value), FMASK) => msrs.fmask = value.into(),
                (Ok(value), _) => msrs.tsc_aux = value,
                (Err(_), _) => return self.protection(),
            },
            // The guest's TSC is the host's, which programs see natively: it is not ours to set.
            TSC => {}
            KVM_WALL_CLOCK => self.write_wall_clock(value),
            KVM_SYSTEM_TIME => self.write_system_time(value),
            _ if Controllers::owns_msr(index) => return self.write_controllers(index, value),
            _ if msrs.plain.write(index, value) => {}
            _ => return self.protection(),
        }
        Ok(())
    }

    fn write_controllers(&mut self, index: u32, value: u64) -> Step {
        let tsc = self.system.clock.tsc();
        let controllers = self.system.controllers.as_ref();
        match controllers.map(|controllers| controllers.write_msr(index, value, tsc)) {
            Some(Ok(())) => Err(Stop::Done),
            _ => self.protection(),
        }
    }

    fn write_efer(&mut self, value: u64) -> Step {
        let old = self.mmu.paging.efer;
        let changes = (value ^ old) & !EFER_LMA;
        let switches_mode = changes & EFER_LME != 0 && self.mmu.paging.cr0 & CR0_PG != 0;
        if changes & !(EFER_SCE | EFER_LME | EFER_NXE) != 0 || switches_mode {
            return self.protection();
        }
        self.mmu.paging.efer = old ^ changes;
        self.sregs.efer = old ^ changes;
        if changes & EFER_NXE != 0 {
            self.mmu.flush_all();
        }
        Err(Stop::Done)
    }

    fn write_wall_clock(&mut self, address: u64) {
        let system = &mut self.system;
        system.msrs.wall_clock = address;
        let bytes = pvclock::wall_clock(system.clock.wall_at_start(), &mut system.msrs.time_version);
        self.write_physical(address, &bytes);
    }

    fn write_system_time(&mut self, value: u64) {
        let system = &mut self.system;
        system.msrs.system_time = value;
        if value & ENABLED != 0 {
            let bytes = pvclock::time_info(&system.clock, &mut system.msrs.time_version);
            self.write_physical(value & !ENABLED, &bytes);
        }
    }

    /// Writes to guest physical memory, where that is RAM.
    fn write_physical(&mut self, address: u64, bytes: &[u8]) {
        let ram = &self.mmu.ram;
        for (address, byte) in
            bytes.iter().enumerate().map(|(i, byte)| (address.wrapping_add(i as u64), byte))
        {
            if let Some(page) = ram.page_at(address) {
                ram.store::<u8>(page | usize::try_from(address & 0xfff).unwrap_or_default(), *byte);
            }
        }
    }
}
