//! What the API needs of a machine, and of whoever makes machines. [`RunningVm`] and [`Vm`] are behind these, or in tests
//! something that only remembers what it was told.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::{RateLimiterConfig, VmConfig};
use crate::cpu::CpuError;
use crate::events::EventSink;
use crate::machine::{BuildError, DeviceCounters, DeviceError, RunningVm, Statistics, Vm, VmExit};
use crate::snapshot::{Overrides, Snapshot, SnapshotError, SnapshotKind};
use crate::virtio::Balloon;

/// A machine that has started.
pub(crate) trait Guest {
    /// The machine as it was configured.
    fn config(&self) -> &VmConfig;
    /// Has it stand still.
    fn pause(&self) -> Result<(), CpuError>;
    /// Lets it go on.
    fn resume(&self);
    /// Whether it stands still.
    fn is_paused(&self) -> bool;
    /// Asks it to end at once.
    fn stop(&self);
    /// Writes it to two files.
    fn snapshot(&self, state: &Path, memory: &Path, kind: SnapshotKind) -> Result<(), SnapshotError>;
    /// Gives disk `index` another file, other limits, or just another look.
    fn update_disk(
        &self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError>;
    /// Gives network card `index` other limits.
    fn update_net(
        &self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError>;
    /// Its balloon.
    fn balloon(&self) -> Option<Arc<Mutex<Balloon>>>;
    /// What its devices have counted.
    fn counters(&self) -> Vec<DeviceCounters>;
    /// What the engine and the host count of it.
    fn statistics(&self) -> Vec<Statistics>;
    /// Readable when it has ended.
    fn exit_fd(&self) -> BorrowedFd<'_>;
    /// How it ended, once it has.
    fn outcome(&mut self) -> Result<Option<VmExit>, CpuError>;
}

impl Guest for RunningVm {
    fn config(&self) -> &VmConfig {
        self.config()
    }

    fn pause(&self) -> Result<(), CpuError> {
        self.pause()
    }

    fn resume(&self) {
        self.resume();
    }

    fn is_paused(&self) -> bool {
        self.is_paused()
    }

    fn stop(&self) {
        self.request_stop();
    }

    fn snapshot(&self, state: &Path, memory: &Path, kind: SnapshotKind) -> Result<(), SnapshotError> {
        self.snapshot(state, memory, kind)
    }

    fn update_disk(
        &self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError> {
        self.handles().update_disk(index, path, limits)
    }

    fn update_net(
        &self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError> {
        self.handles().update_net(index, receive, transmit)
    }

    fn balloon(&self) -> Option<Arc<Mutex<Balloon>>> {
        self.handles().balloon.clone()
    }

    fn counters(&self) -> Vec<DeviceCounters> {
        self.handles().counters()
    }

    fn statistics(&self) -> Vec<Statistics> {
        self.statistics()
    }

    fn exit_fd(&self) -> BorrowedFd<'_> {
        self.exit_fd()
    }

    fn outcome(&mut self) -> Result<Option<VmExit>, CpuError> {
        self.try_wait()
    }
}

/// A snapshot to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The file with all but the memory.
    pub state: PathBuf,
    /// The file with the memory.
    pub memory: PathBuf,
    /// What is called otherwise on this host.
    pub overrides: Overrides,
}

/// Makes machines.
pub(crate) trait Maker {
    /// Starts the machine that `config` describes.
    fn boot(&self, config: &VmConfig) -> Result<Box<dyn Guest>, BuildError>;
    /// Makes the machine of a snapshot, which stands still.
    fn restore(&self, restore: Restore) -> Result<Box<dyn Guest>, BuildError>;
}

/// Makes machines of this process.
pub(crate) struct Machines {
    /// Where their boot events go.
    pub(crate) events: Arc<dyn EventSink>,
    /// Whether their threads make only the system calls that they need.
    pub(crate) confine: bool,
}

impl Machines {
    fn confined(&self, mut vm: Vm) -> Vm {
        if self.confine {
            vm.confine_threads();
        }
        vm
    }
}

impl Maker for Machines {
    fn boot(&self, config: &VmConfig) -> Result<Box<dyn Guest>, BuildError> {
        let vm = self.confined(Vm::build(config, self.events.clone())?);
        Ok(Box::new(vm.start()?))
    }

    fn restore(&self, restore: Restore) -> Result<Box<dyn Guest>, BuildError> {
        let mut snapshot = Snapshot::read(&restore.state)?;
        restore.overrides.apply(&mut snapshot.config).map_err(SnapshotError::from)?;
        let vm = self.confined(Vm::restore(snapshot, &restore.memory, self.events.clone())?);
        Ok(Box::new(vm.start_paused()?))
    }
}
