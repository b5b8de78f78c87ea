//! The machine as the crate `gdbstub` wants it: vCPUs are threads, memory is what the page tables of a vCPU map.

use std::sync::mpsc;

use gdbstub::arch::Arch;
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints as BreakpointsExtension, BreakpointsOps, HwBreakpoint, HwBreakpointOps, SwBreakpoint,
    SwBreakpointOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::Guest;
use super::arch::{Vcpu, VcpuRegisters};
use super::breakpoints::{Breakpoints, Kind};
use super::registers;
use crate::cpu::CpuError;
use crate::cpu::debug::{DebugCpu, DebugState, Stops, Trap};
use crate::cpu::page_walk::{self, Paging};
use crate::machine::ended;
use crate::memory::GuestMemory;

/// What a vCPU does when the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It was not named.
    Default,
    Go,
    Step,
}

/// The machine.
pub(super) struct Machine<'a> {
    guest: &'a dyn Guest,
    memory: &'a GuestMemory,
    breakpoints: Breakpoints,
    plans: Vec<Plan>,
    /// The guest has died: it stands still at that place, or has ended since.
    has_died: bool,
    /// The guest stands still: only then can its vCPUs be asked.
    is_stopped: bool,
    /// vCPUs that were not named stand still.
    only_named: bool,
    /// The registers that were last asked for, until the guest goes on.
    known: Option<(usize, DebugState)>,
}

fn number(tid: Tid) -> usize {
    tid.get() - 1
}

fn tid(vcpu: usize) -> Tid {
    Tid::MIN.saturating_add(vcpu)
}

impl<'a> Machine<'a> {
    /// The machine of `guest`, which stands still.
    ///
    /// # Errors
    /// The guest has ended.
    pub(super) fn new(guest: &'a dyn Guest, memory: &'a GuestMemory) -> Result<Self, CpuError> {
        let plans = vec![Plan::Default; guest.vcpus()];
        let breakpoints = Breakpoints::default();
        let mut machine = Self {
            guest,
            memory,
            breakpoints,
            plans,
            has_died: false,
            is_stopped: true,
            only_named: false,
            known: None,
        };
        let most = machine.ask(0, |cpu| Ok(cpu.most_breakpoints()))?;
        machine.breakpoints = Breakpoints::up_to(most);
        Ok(machine)
    }

    /// Asks vCPU `vcpu`, on its thread.
    fn ask<R: Send + 'static>(
        &self,
        vcpu: usize,
        work: impl FnOnce(&mut dyn DebugCpu) -> Result<R, CpuError> + Send + 'static,
    ) -> Result<R, CpuError> {
        if !self.is_stopped {
            return Err(CpuError::Thread(
                "the debugger asks for what can only be had of a guest that stands still".into(),
            ));
        }
        let (answer, answers) = mpsc::channel();
        let work = move |cpu: &mut dyn DebugCpu| {
            // Whoever asked waits.
            let _ = answer.send(work(cpu));
        };
        self.guest.debug(vcpu, Box::new(work))?;
        answers.recv().map_err(|_| ended())?
    }

    fn state(&mut self, vcpu: usize) -> Result<&DebugState, CpuError> {
        let state = match self.known.take() {
            Some((known, state)) if known == vcpu => state,
            _ => self.ask(vcpu, |cpu| cpu.registers())?,
        };
        Ok(&self.known.insert((vcpu, state)).1)
    }

    /// Has the guest stand still.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn stop(&mut self) -> Result<(), CpuError> {
        self.known = None;
        self.guest.stop()?;
        self.is_stopped = true;
        Ok(())
    }

    /// How the guest has ended, as gdb hears it.
    pub(super) fn ended(&self) -> MultiThreadStopReason<u64> {
        if self.has_died {
            MultiThreadStopReason::Terminated(Signal::SIGSEGV)
        } else {
            MultiThreadStopReason::Exited(0)
        }
    }

    /// What to report of a vCPU that has stopped.
    pub(super) fn reason(&mut self, vcpu: u8, trap: Trap) -> MultiThreadStopReason<u64> {
        let vcpu = usize::from(vcpu);
        let tid = tid(vcpu);
        match trap {
            Trap::Died => {
                self.has_died = true;
                MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGSEGV }
            }
            Trap::Step => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
            Trap::Breakpoint => {
                let rip = self.state(vcpu).map(|state| state.regs.rip).unwrap_or_default();
                match self.breakpoints.kind_at(rip) {
                    Some(Kind::Hardware) => MultiThreadStopReason::HwBreak(tid),
                    _ => MultiThreadStopReason::SwBreak(tid),
                }
            }
        }
    }

    /// Lets the guest go on without a debugger.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn let_go(&mut self) -> Result<(), CpuError> {
        self.breakpoints = Breakpoints::default();
        self.plans.fill(Plan::Default);
        self.only_named = false;
        self.go_on()
    }

    fn go_on(&mut self) -> Result<(), CpuError> {
        self.known = None;
        let breakpoints = self.breakpoints.addresses();
        for (vcpu, plan) in self.plans.iter().enumerate() {
            let stops = Stops { breakpoints: breakpoints.clone(), step: *plan == Plan::Step };
            self.ask(vcpu, move |cpu| cpu.stop_at(&stops))?;
        }
        let goes =
            |vcpu: usize| !self.only_named || self.plans.get(vcpu).is_some_and(|plan| *plan != Plan::Default);
        self.is_stopped = false;
        self.guest.go(&goes);
        Ok(())
    }

    fn plan(&mut self, tid: Tid, plan: Plan) -> Result<(), CpuError> {
        *self.plans.get_mut(number(tid)).ok_or_else(no_such)? = plan;
        Ok(())
    }

    fn paging(&mut self, tid: Tid) -> Result<Paging, CpuError> {
        Ok(Paging::from(&self.state(number(tid))?.sregs))
    }
}

fn no_such() -> CpuError {
    CpuError::Thread("the debugger names a vCPU that there is not".into())
}

impl Target for Machine<'_> {
    type Arch = Vcpu;
    type Error = CpuError;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

impl MultiThreadBase for Machine<'_> {
    fn read_registers(&mut self, regs: &mut VcpuRegisters, tid: Tid) -> TargetResult<(), Self> {
        *regs = registers::for_gdb(self.state(number(tid)).map_err(TargetError::Fatal)?);
        Ok(())
    }

    fn write_registers(&mut self, regs: &VcpuRegisters, tid: Tid) -> TargetResult<(), Self> {
        let vcpu = number(tid);
        let mut state = self.state(vcpu).map_err(TargetError::Fatal)?.clone();
        self.known = None;
        if !registers::from_gdb(regs, &mut state) {
            return Err(TargetError::NonFatal);
        }
        // What KVM does not take is the debugger's mistake, not the end of it.
        self.ask(vcpu, move |cpu| cpu.set_registers(&state)).map_err(|error| {
            tracing::debug!(%error, "registers that a debugger has set were refused");
            TargetError::NonFatal
        })
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let paging = self.paging(tid).map_err(TargetError::Fatal)?;
        match page_walk::read(self.memory, paging, start, data) {
            0 if !data.is_empty() => Err(TargetError::NonFatal),
            read => Ok(read),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let paging = self.paging(tid).map_err(TargetError::Fatal)?;
        let written = page_walk::write(self.memory, paging, start, data);
        for vcpu in 0..self.guest.vcpus() {
            self.ask(vcpu, |cpu| {
                cpu.memory_changed();
                Ok(())
            })
            .map_err(TargetError::Fatal)?;
        }
        if written { Ok(()) } else { Err(TargetError::NonFatal) }
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), CpuError> {
        (0..self.guest.vcpus()).map(tid).for_each(is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadResume for Machine<'_> {
    fn resume(&mut self) -> Result<(), CpuError> {
        self.go_on()
    }

    fn clear_resume_actions(&mut self) -> Result<(), CpuError> {
        self.plans.fill(Plan::Default);
        self.only_named = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), CpuError> {
        self.plan(tid, Plan::Go)
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Machine<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), CpuError> {
        self.plan(tid, Plan::Step)
    }
}

impl MultiThreadSchedulerLocking for Machine<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), CpuError> {
        self.only_named = true;
        Ok(())
    }
}

type Size = <Vcpu as Arch>::BreakpointKind;

impl BreakpointsExtension for Machine<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Machine<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _: Size) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.add(address, Kind::Software))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: Size) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.remove(address, Kind::Software))
    }
}

impl HwBreakpoint for Machine<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, _: Size) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.add(address, Kind::Hardware))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: Size) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.remove(address, Kind::Hardware))
    }
}
