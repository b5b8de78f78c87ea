//! What the stub needs of a machine; tests have one without KVM.

use std::sync::Arc;

use crate::cpu::CpuError;
use crate::cpu::thread::Work;
use crate::machine::{VcpuControl, VmExit};

/// The vCPUs of a machine.
pub(crate) trait Guest: Send + Sync {
    /// How many there are.
    fn vcpus(&self) -> usize;

    /// Has all of them stand still.
    ///
    /// # Errors
    /// The guest has ended.
    fn stop(&self) -> Result<(), CpuError>;

    /// Lets those go on that `goes` names; all of them stand still.
    fn go(&self, goes: &dyn Fn(usize) -> bool);

    /// Has `work` be done with one that stands still.
    ///
    /// # Errors
    /// The guest has ended, or there is no such vCPU.
    fn debug(&self, vcpu: usize, work: Work) -> Result<(), CpuError>;

    /// Ends the guest.
    fn end(&self);
}

impl Guest for Arc<VcpuControl> {
    fn vcpus(&self) -> usize {
        VcpuControl::vcpus(self)
    }

    fn stop(&self) -> Result<(), CpuError> {
        self.keep()
    }

    fn go(&self, goes: &dyn Fn(usize) -> bool) {
        self.keep_only(|vcpu| !goes(vcpu));
    }

    fn debug(&self, vcpu: usize, work: Work) -> Result<(), CpuError> {
        VcpuControl::debug(self, vcpu, work)
    }

    fn end(&self) {
        VcpuControl::end(self, VmExit::Stopped);
    }
}
