//! What a machine needs of the host besides what its configuration names. It can be opened before the jail closes and the
//! machine be built in there, where neither /dev nor /proc is.

use std::fs::File;

use super::BuildError;
use crate::config::Engine;
use crate::cpu::host_cpu::HostCpu;
use crate::kvm::Host;
use crate::snapshot::{SnapshotError, memory};
use crate::sys::code_pages::{CodePages, SMAPS};

/// KVM, what the CPU is, which pages of this process are its own, and which are code.
#[derive(Debug)]
pub(crate) struct Opened {
    /// KVM.
    pub(crate) kvm: Host,
    /// The CPU.
    pub(crate) cpu: HostCpu,
    pages: File,
    code: CodePages,
}

impl Opened {
    /// Opens it all, for machines of this process.
    ///
    /// # Errors
    /// KVM is absent or refused, or there is no /proc.
    pub(crate) fn now() -> Result<Self, BuildError> {
        let cpu = HostCpu::read();
        let (pages, code) =
            (memory::page_map()?, CodePages::find().map_err(SnapshotError::file("read", SMAPS.as_ref()))?);
        Ok(Self { kvm: Host::open_on(&cpu)?, cpu, pages, code })
    }

    /// Where this process's code is.
    pub(crate) fn code(&self) -> CodePages {
        self.code.clone()
    }

    /// What `engine` stands for on this host.
    pub(crate) fn engine(&self, engine: Engine) -> Engine {
        engine.on_cpu(&self.cpu)
    }

    /// The page map of this process.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub(crate) fn pages(&self) -> Result<File, SnapshotError> {
        self.pages.try_clone().map_err(SnapshotError::file("open", memory::PAGE_MAP.as_ref()))
    }
}
