//! What only system instructions touch, apart from the registers in `Cpu::sregs`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::cpuid::Cpuid;
use super::interrupts::Controllers;
use super::msrs::Msrs;

/// DR6 with nothing to report.
const DR6_CLEAR: u64 = 0xffff_0ff0;
/// DR7 with no breakpoint.
const DR7_CLEAR: u64 = 0x400;

/// The debug registers. They hold what they are given; no breakpoint is ever hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DebugRegisters {
    /// DR0 to DR3.
    pub(crate) addresses: [u64; 4],
    /// DR6.
    pub(crate) status: u64,
    /// DR7.
    pub(crate) control: u64,
}

impl Default for DebugRegisters {
    fn default() -> Self {
        Self { addresses: [0; 4], status: DR6_CLEAR, control: DR7_CLEAR }
    }
}

/// The state of system instructions.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) msrs: Msrs,
    pub(crate) cpuid: Cpuid,
    pub(crate) clock: Clock,
    pub(crate) debug: DebugRegisters,
    /// An NMI's handler runs: no other one until its IRET.
    pub(crate) nmi_blocked: bool,
    /// The interrupt controllers, which have CR8 and MSRs of their own.
    pub(crate) controllers: Option<Arc<Controllers>>,
}

impl System {
    /// The state as firmware leaves it.
    pub(crate) fn new(cpuid: Cpuid, clock: Clock, controllers: Option<Arc<Controllers>>) -> Self {
        let debug = DebugRegisters::default();
        Self { msrs: Msrs::default(), cpuid, clock, debug, nmi_blocked: false, controllers }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new(Cpuid::default(), Clock::default(), None)
    }
}
