//! A vCPU as gdb is told of it: the registers that `gdbstub_arch` knows, and behind them those that kernels use.

use gdbstub::arch::{Arch, Registers};
use gdbstub_arch::x86::reg::X86_64CoreRegs;

/// Bytes of `X86_64CoreRegs` in a packet.
const CORE: usize = 0x218;

/// An x86-64 CPU with its system registers.
pub(super) enum Vcpu {}

impl Arch for Vcpu {
    type Usize = u64;
    type Registers = VcpuRegisters;
    type RegId = ();
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Registers that kernels use. The guest alone sets them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SystemRegisters {
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
    pub(super) cr0: u64,
    pub(super) cr2: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) cr8: u64,
    pub(super) efer: u64,
    /// Addresses of the descriptor tables.
    pub(super) gdtr: u64,
    pub(super) idtr: u64,
}

impl SystemRegisters {
    /// In the order of the description.
    fn to_array(self) -> [u64; 10] {
        let Self { fs_base, gs_base, cr0, cr2, cr3, cr4, cr8, efer, gdtr, idtr } = self;
        [fs_base, gs_base, cr0, cr2, cr3, cr4, cr8, efer, gdtr, idtr]
    }

    fn from_array(array: [u64; 10]) -> Self {
        let [fs_base, gs_base, cr0, cr2, cr3, cr4, cr8, efer, gdtr, idtr] = array;
        Self { fs_base, gs_base, cr0, cr2, cr3, cr4, cr8, efer, gdtr, idtr }
    }
}

/// All registers, in the order of the description.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct VcpuRegisters {
    pub(super) core: X86_64CoreRegs,
    pub(super) system: SystemRegisters,
}

impl Registers for VcpuRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.core.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.core.gdb_serialize(&mut write_byte);
        let bytes = self.system.to_array().into_iter().flat_map(u64::to_le_bytes);
        bytes.for_each(|byte| write_byte(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (core, system) = bytes.split_at_checked(CORE).ok_or(())?;
        self.core.gdb_deserialize(core)?;
        let words: Vec<u64> = system.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        self.system = SystemRegisters::from_array(words.try_into().map_err(drop)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of all registers that the description has.
    fn described() -> u64 {
        let xml = Vcpu::target_description_xml().unwrap();
        let sizes = xml.split("bitsize=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        sizes.map(|bits| bits.parse::<u64>().unwrap() / 8).sum()
    }

    #[test]
    fn packets_are_as_long_as_the_description_says_and_come_back() {
        let mut registers = VcpuRegisters::default();
        registers.core.rip = 7;
        registers.system = SystemRegisters::from_array(std::array::from_fn(|number| number as u64));
        let mut packet = Vec::new();
        registers.gdb_serialize(|byte| packet.extend(byte));
        assert_eq!(packet.len() as u64, described());
        let mut back = VcpuRegisters::default();
        back.gdb_deserialize(&packet).unwrap();
        assert_eq!(back, registers);
        for short in [0, 7, CORE, packet.len() - 1] {
            back.gdb_deserialize(&packet[..short]).unwrap_err();
        }
    }
}
