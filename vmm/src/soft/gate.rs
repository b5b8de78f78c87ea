//! An entry of the interrupt table (Intel SDM volume 3A, figure 6-8).

use super::cpu::Cpu;
use super::step::{Exception, Step};

/// Bit of an error code: it names an entry of the interrupt table.
const ERROR_IDT: u32 = 2;
/// Types of gates that there are in long mode.
const INTERRUPT_GATE: u8 = 0xe;
const TRAP_GATE: u8 = 0xf;

/// An interrupt or trap gate of 64-bit mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Address of the handler.
    pub(crate) handler: u64,
    /// Code segment of the handler.
    pub(crate) selector: u16,
    /// Entry of the interrupt stack table, from 1; 0 for none.
    pub(crate) stack: u8,
    /// The handler starts with interrupts disabled.
    pub(crate) disables_interrupts: bool,
}

impl Cpu {
    /// Whether the next instruction is the first one of the handler of `vector`.
    pub(crate) fn is_at_handler(&mut self, vector: u8) -> bool {
        let at_handler = Gate::of(self, vector, None, 0).is_ok_and(|gate| gate.handler == self.rip);
        self.exception = None;
        at_handler
    }
}

impl Gate {
    /// The gate of `vector`, checked. `programs_level` is given for what software asks for by number. `external` is the
    /// bit of the error codes that says that software did not.
    ///
    /// # Errors
    /// There is no gate that may be used.
    pub(crate) fn of(cpu: &mut Cpu, vector: u8, programs_level: Option<u8>, external: u32) -> Step<Self> {
        let error_code = u32::from(vector) << 3 | ERROR_IDT | external;
        let offset = u64::from(vector) * 16;
        if offset + 15 > u64::from(cpu.sregs.idt.limit) {
            return cpu.raise(Exception::general_protection(error_code));
        }
        let at = cpu.sregs.idt.base.wrapping_add(offset);
        let low = cpu.read_system::<u64>(at)?;
        let high = cpu.read_system::<u64>(at.wrapping_add(8))?;
        let [a, b, s0, s1, stack, access, c, d] = low.to_le_bytes();
        let [e, f, g, h, ..] = high.to_le_bytes();
        let (kind, level) = (access & 0x1f, access >> 5 & 3);
        if !matches!(kind, INTERRUPT_GATE | TRAP_GATE) || programs_level.is_some_and(|own| own > level) {
            return cpu.raise(Exception::general_protection(error_code));
        }
        if access & 0x80 == 0 {
            return cpu.raise(Exception::not_present(error_code));
        }
        Ok(Self {
            handler: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            selector: u16::from_le_bytes([s0, s1]),
            stack: stack & 7,
            disables_interrupts: kind == INTERRUPT_GATE,
        })
    }
}
