//! What the API needs of a machine, and of whoever makes machines. [`RunningVm`] and [`Vm`] are behind these, or in tests
//! something that only remembers what it was told.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::{RateLimiterConfig, TapSource, VmConfig};
use crate::cpu::CpuError;
use crate::events::EventSink;
use crate::machine::{BuildError, DeviceCounters, DeviceError, Opened, RunningVm, Statistics, Vm, VmExit};
use crate::seccomp::{self, ThreadKind};
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
        &mut self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError>;
    /// Gives network card `index` other limits.
    fn update_net(
        &mut self,
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
        &mut self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError> {
        self.update_disk(index, path, limits)
    }

    fn update_net(
        &mut self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError> {
        self.update_net(index, receive, transmit)
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
    /// What they need of the host.
    pub(crate) opened: Opened,
    /// Taps that are open already, by name.
    pub(crate) taps: Vec<(String, OwnedFd)>,
    /// How they are walled in.
    pub(crate) walls: Walls,
}

/// What surrounds a machine that clients describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walls {
    /// Nothing.
    None,
    /// Its own threads make only the system calls that they need.
    Threads,
    /// This process is in a jail, and all threads make only the system calls that they need.
    Jail,
}

impl Machines {
    /// Starts `vm`, which is to be known as `config`, without letting its guest run, in its walls.
    fn start(&self, mut vm: Vm, config: VmConfig) -> Result<Box<RunningVm>, BuildError> {
        vm.describe_as(config, None);
        if self.walls != Walls::None {
            vm.confine_threads();
        }
        let running = vm.start_paused()?;
        if self.walls == Walls::Jail {
            seccomp::install(ThreadKind::ApiWithFiles)?;
        }
        Ok(Box::new(running))
    }

    /// `config` with descriptors of taps where their names were. From a jail no other can be reached.
    fn with_taps(&self, config: &VmConfig) -> Result<VmConfig, BuildError> {
        let mut config = config.clone();
        for net in &mut config.nets {
            let TapSource::Name(name) = &net.tap else { continue };
            match self.taps.iter().find(|(open, _)| open == name) {
                Some((_, tap)) => net.tap = TapSource::Fd(tap.as_raw_fd()),
                None if self.walls == Walls::Jail => return Err(BuildError::Tap(name.clone())),
                None => {}
            }
        }
        Ok(config)
    }
}

impl Maker for Machines {
    fn boot(&self, config: &VmConfig) -> Result<Box<dyn Guest>, BuildError> {
        let vm = Vm::build_with(&self.opened, &self.with_taps(config)?, self.events.clone())?;
        let running = self.start(vm, config.clone())?;
        running.resume();
        Ok(running)
    }

    fn restore(&self, restore: Restore) -> Result<Box<dyn Guest>, BuildError> {
        let mut snapshot = Snapshot::read_for(&self.opened.cpu, &restore.state)?;
        restore.overrides.apply(&mut snapshot.config).map_err(SnapshotError::from)?;
        let config = snapshot.config.clone();
        snapshot.config = self.with_taps(&config)?;
        let vm = Vm::restore_with(&self.opened, snapshot, &restore.memory, self.events.clone())?;
        Ok(self.start(vm, config)?)
    }
}
