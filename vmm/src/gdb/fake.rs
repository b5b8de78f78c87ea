//! A machine without KVM, for tests of the stub: vCPUs that do nothing but remember, over memory that maps nothing.

use std::sync::{Arc, Mutex};

use super::Guest;
use crate::cpu::CpuError;
use crate::cpu::debug::{DebugCpu, DebugState, Stops};
use crate::cpu::thread::Work;

/// A vCPU.
#[derive(Debug, Default, Clone)]
pub(super) struct FakeCpu {
    pub(super) state: DebugState,
    pub(super) stops: Stops,
    pub(super) runs: bool,
}

impl DebugCpu for FakeCpu {
    fn most_breakpoints(&self) -> usize {
        4
    }

    fn registers(&mut self) -> Result<DebugState, CpuError> {
        Ok(self.state.clone())
    }

    fn set_registers(&mut self, state: &DebugState) -> Result<(), CpuError> {
        self.state = state.clone();
        Ok(())
    }

    fn stop_at(&mut self, stops: &Stops) -> Result<(), CpuError> {
        self.stops = stops.clone();
        Ok(())
    }

    fn memory_changed(&mut self) {}
}

/// Two of them.
#[derive(Debug, Default, Clone)]
pub(super) struct FakeGuest(pub(super) Arc<Mutex<[FakeCpu; 2]>>);

impl Guest for FakeGuest {
    fn vcpus(&self) -> usize {
        2
    }

    fn stop(&self) -> Result<(), CpuError> {
        self.0.lock().unwrap().iter_mut().for_each(|cpu| cpu.runs = false);
        Ok(())
    }

    fn go(&self, goes: &dyn Fn(usize) -> bool) {
        self.0.lock().unwrap().iter_mut().enumerate().for_each(|(index, cpu)| cpu.runs = goes(index));
    }

    fn debug(&self, vcpu: usize, work: Work) -> Result<(), CpuError> {
        let mut cpus = self.0.lock().unwrap();
        let cpu = cpus.get_mut(vcpu).ok_or_else(|| CpuError::Thread("no such vCPU".into()))?;
        assert!(!cpu.runs, "only a vCPU that stands still is asked");
        work(cpu);
        Ok(())
    }

    fn end(&self) {}
}
