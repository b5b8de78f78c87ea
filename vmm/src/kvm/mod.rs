//! Everything that names KVM: the machine it gives us and the CPU engine on top of it.
//!
//! [`Host`] is the open `/dev/kvm`, [`KvmMachine`] the virtual machine with its in-kernel interrupt controllers,
//! [`KvmCpu`] its vCPU as a [`crate::cpu::CpuEngine`]. `msrs` and `lapic` set the state a vCPU
//! starts with, `state` is what a snapshot keeps. What a KVM without hardware assistance needs besides is in `without_hardware`, and nowhere else.
//! `ring3` is the other way to use KVM there: for the guest's programs only, with its kernel in our interpreter.

#![expect(
    unsafe_code,
    reason = "KVM memory slots, the shared kvm_run page and thread-directed signals need unsafe"
)]

mod cpu;
mod death;
mod event_frame;
mod gate;
mod internal_error;
mod kick;
mod lapic;
mod machine;
mod msrs;
mod platform;
mod port_access;
mod ring3;
mod state;
mod stats;
mod survey;
mod syscall_msrs;
mod without_hardware;

use std::path::PathBuf;
use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};

use cpu::KvmCpu;
use machine::KvmMachine;
pub(crate) use platform::KvmPlatform;
pub(crate) use ring3::{ExtendedState, Ring3, Ring3Exit, Ring3State};
pub(crate) use stats::KvmStats;
pub use survey::KvmSurvey;
pub(crate) use syscall_msrs::SyscallMsrs;

use crate::cpu::cpuid::{self, Place};
use crate::cpu::host_cpu::HostCpu;

/// The only API version there has ever been since 2007.
const API_VERSION: i32 = 12;
const DEVICE: &str = "/dev/kvm";

/// What a host must offer; all of it is there on any x86-64 host since Linux 4.5.
const REQUIRED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::Pit2, "an in-kernel timer (PIT)"),
    (Cap::Irqfd, "interrupts by eventfd"),
    (Cap::Ioeventfd, "notifications by eventfd"),
    (Cap::UserMemory, "guest memory in user space"),
    (Cap::SetTssAddr, "a place for its TSS"),
    (Cap::ImmediateExit, "immediate exit"),
];

/// Why KVM cannot be used, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no KVM here.
    #[error(
        "{device} does not exist: load the kvm_intel or kvm_amd module, or enable virtualisation (VT-x, SVM) in the firmware; in a cloud VM ask for nested virtualisation"
    )]
    Absent {
        /// The device file.
        device: PathBuf,
    },
    /// KVM is there, but not for this user.
    #[error("no permission to open {device}: run as root or join the group that owns it (usually kvm)")]
    Denied {
        /// The device file.
        device: PathBuf,
    },
    /// The device is something else.
    #[error("{device} is not KVM: it does not answer as such; look what is mounted or made there")]
    NotKvm {
        /// The device file.
        device: PathBuf,
    },
    /// KVM lacks something.
    #[error("this host's KVM lacks {what}")]
    Lacks {
        /// What it lacks.
        what: String,
    },
    /// A call failed.
    #[error("KVM refused to {what}: {source}")]
    Call {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// The guest starts in a mode that the interpreter does not run.
    #[error(
        "this kernel starts in 32-bit mode (PVH), which the software engine does not run; take one with the 64-bit boot protocol, or --engine kvm"
    )]
    Entry,
    /// What a snapshot says of vCPUs or interrupt controllers makes no sense.
    #[error("the saved state of {what} cannot be used: {problem}; take a new snapshot")]
    State {
        /// Of what.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// More vCPUs than the interpreter runs.
    #[error(
        "{0} vCPUs were asked for, but the software engine, which hosts without hardware assistance use, runs one; take one vCPU, or --engine kvm, which is slow on such a host"
    )]
    Vcpus(u8),
    /// The repairs for a KVM without hardware assistance met something they cannot repair.
    #[error("on this KVM without hardware assistance, {0}")]
    Repair(String),
}

impl KvmError {
    /// Turns the error of a call that was to do `what` into one of ours.
    fn call<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call { what, source: source.into() }
    }
}

/// KVM on this host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    kvm: Arc<Kvm>,
    /// Where the CPU has no virtualisation, KVM emulates the guest's kernel.
    has_virtualisation: bool,
}

impl Host {
    /// Opens KVM.
    ///
    /// # Errors
    /// It is absent, forbidden, or lacks something that the machine is made of.
    pub(crate) fn open() -> Result<Self, KvmError> {
        Self::open_on(&HostCpu::read())
    }

    /// Opens KVM on a host with this CPU.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(crate) fn open_on(cpu: &HostCpu) -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(|error| match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmError::Absent { device: DEVICE.into() },
            libc::EACCES | libc::EPERM => KvmError::Denied { device: DEVICE.into() },
            _ => KvmError::Call { what: "open /dev/kvm", source: error.into() },
        })?;
        match kvm.get_api_version() {
            API_VERSION => {}
            -1 => return Err(KvmError::NotKvm { device: DEVICE.into() }),
            _ => return Err(KvmError::Lacks { what: format!("API version {API_VERSION}") }),
        }
        for (capability, what) in REQUIRED {
            if !kvm.check_extension(capability) {
                return Err(KvmError::Lacks { what: what.into() });
            }
        }
        Ok(Self { kvm: Arc::new(kvm), has_virtualisation: cpu.has_virtualisation })
    }

    /// The model-specific registers that KVM can save and put back.
    ///
    /// # Errors
    /// KVM does not say.
    fn saved_msrs(&self) -> Result<Arc<[u32]>, KvmError> {
        let list = self.kvm.get_msr_index_list().map_err(KvmError::call("list model-specific registers"))?;
        Ok(list.as_slice().into())
    }

    /// What KVM supports of CPUID, as the processor at `place` says it.
    ///
    /// # Errors
    /// KVM does not say.
    pub(crate) fn cpuid(&self, place: Place) -> Result<CpuId, KvmError> {
        let supported = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::call("read supported CPUID"))?;
        let tsc_deadline = self.kvm.check_extension(Cap::TscDeadlineTimer);
        let entries = cpuid::of_processor(supported.as_slice(), place, tsc_deadline);
        CpuId::from_entries(&entries)
            .map_err(|e| KvmError::call("shape CPUID")(std::io::Error::other(format!("{e:?}"))))
    }
}
