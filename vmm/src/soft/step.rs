//! What one instruction comes to.

/// An exception that an instruction raises, as the CPU delivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exception {
    /// Vector in the interrupt table.
    pub(crate) vector: u8,
    /// Error code, for those exceptions that push one.
    pub(crate) error_code: Option<u32>,
    /// What goes to CR2, for page faults.
    pub(crate) address: Option<u64>,
}

impl Exception {
    /// Divide error.
    pub(crate) const DIVIDE: Self = Self::plain(0);
    /// Breakpoint.
    pub(crate) const BREAKPOINT: Self = Self::plain(3);
    /// Invalid opcode.
    pub(crate) const INVALID_OPCODE: Self = Self::plain(6);
    /// Device (FPU) not available.
    pub(crate) const DEVICE_NOT_AVAILABLE: Self = Self::plain(7);

    /// Debug.
    pub(crate) const DEBUG: Self = Self::plain(1);
    /// An x87 exception that is not masked.
    pub(crate) const FLOATING_POINT: Self = Self::plain(16);
    /// An exception while another one was being delivered.
    pub(crate) const DOUBLE_FAULT: Self = Self { error_code: Some(0), ..Self::plain(8) };

    const fn plain(vector: u8) -> Self {
        Self { vector, error_code: None, address: None }
    }

    /// General protection, with a selector or zero.
    pub(crate) const fn general_protection(error_code: u32) -> Self {
        Self { vector: 13, error_code: Some(error_code), address: None }
    }

    /// Invalid task state segment.
    pub(crate) const fn invalid_task(error_code: u32) -> Self {
        Self { error_code: Some(error_code), ..Self::plain(10) }
    }

    /// Segment not present.
    pub(crate) const fn not_present(error_code: u32) -> Self {
        Self { error_code: Some(error_code), ..Self::plain(11) }
    }

    /// Stack fault.
    pub(crate) const fn stack_fault(error_code: u32) -> Self {
        Self { error_code: Some(error_code), ..Self::plain(12) }
    }

    /// Page fault at `address`.
    pub(crate) const fn page_fault(address: u64, error_code: u32) -> Self {
        Self { vector: 14, error_code: Some(error_code), address: Some(address) }
    }
}

/// Why the interpreter cannot just go on with the next instruction.
///
/// Unless said otherwise the instruction has had no effect, and RIP is to be its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// It raised the exception in `Cpu::exception`.
    Fault,
    /// It is done, has set RIP, and changed something the interpreter must look at (privilege, paging, interrupts).
    Done,
    /// It is done, has set RIP, and waits for an interrupt.
    Halt,
    /// A repeated string instruction has done some of its work, visible in the registers, and is to be run again.
    Again,
    /// It wants the port access in `Cpu::port`, and is then to be run again with what came of it in `Cpu::port_answer`.
    Port,
    /// It wants the device access in `Cpu::device` and is then to be run again.
    Device,
    /// It wants the state of FPU and vector units in `Cpu::extended`, and is then to be run again.
    Extended,
    /// It writes to a page with decoded code, in `Cpu::code_written`, which must be forgotten first.
    Code,
    /// The interpreter does not know it.
    Unknown,
}

/// The outcome of an instruction; `Ok` goes on behind it.
pub(crate) type Step<T = ()> = Result<T, Stop>;
