//! A running virtual machine, as whoever started it holds it.
//!
//! ```text
//!              ┌──────── pause ─────────┐
//!   start ──► running               paused ◄── start_paused
//!              │ ▲────── resume ────────┘ └──► snapshot
//!              ▼
//!            ended ◄── the guest, stop
//! ```

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::builder::{BuildError, Vm};
use super::devices::{DeviceError, PlacedDevices};
use super::event_thread::EventThread;
use super::vcpus::{Beginning, Vcpus};
use super::{Handles, Opened, Platform, Statistics, VmExit};
use crate::config::{RateLimiterConfig, VmConfig};
use crate::console::terminal::RawTerminal;
use crate::cpu::CpuError;
use crate::cpu::debug::Traps;
use crate::cpu::thread::Outcome;
use crate::gdb::{self, Debugger};
use crate::jail;
use crate::memory::GuestMemory;
use crate::profile::Profile;
use crate::snapshot::memory::{self, Ram};
use crate::snapshot::{Snapshot, SnapshotError, SnapshotKind, format, wall_clock_ns};
use crate::symbols::Symbols;

/// What a running machine keeps besides its threads: all that a snapshot is made of.
pub(super) struct Kept {
    config: VmConfig,
    /// The directory of the host that is this process's root, where `config` has the host's names.
    root: Option<PathBuf>,
    /// The kernel's System.map, as this process finds it.
    symbols: Option<PathBuf>,
    memory: GuestMemory,
    ram: Mutex<Ram>,
    /// The page map of this process.
    pages: File,
    /// What the host's CPU calls itself.
    cpu_model: String,
    platform: Box<dyn Platform>,
    devices: PlacedDevices,
}

impl Kept {
    /// Puts it together.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub(super) fn new(
        opened: &Opened,
        mut config: VmConfig,
        memory: GuestMemory,
        ram: Ram,
        platform: Box<dyn Platform>,
        devices: PlacedDevices,
    ) -> Result<Self, SnapshotError> {
        config.engine = opened.engine(config.engine);
        let (pages, cpu_model) = (opened.pages()?, opened.cpu.model.clone());
        let symbols = config.symbols.clone();
        Ok(Self {
            config,
            root: None,
            symbols,
            memory,
            ram: Mutex::new(ram),
            pages,
            cpu_model,
            platform,
            devices,
        })
    }

    /// The machine as it was configured, its engine decided.
    pub(super) fn config(&self) -> &VmConfig {
        &self.config
    }

    /// Has the machine be known as `config`, which differs in names only: they are those of the host, whose directory
    /// `root` is to be the root of this process, or without one those that this process knows.
    pub(super) fn describe_as(&mut self, config: VmConfig, root: Option<PathBuf>) {
        self.config = VmConfig { engine: self.config.engine, ..config };
        self.root = root;
    }
}

/// A guest that runs on threads of its own. Dropping it stops the guest.
pub struct RunningVm {
    vcpus: Vcpus,
    debugger: Option<Debugger>,
    ended: Arc<OwnedFd>,
    _terminal: Option<RawTerminal>,
    kept: Kept,
    /// Last: devices serve until no vCPU runs.
    event_thread: EventThread,
}

impl RunningVm {
    pub(super) fn start(vm: Vm, paused: bool) -> Result<Self, BuildError> {
        let ended = signal()?;
        let terminal = vm.uses_terminal.then(RawTerminal::enter);
        let event_thread = EventThread::spawn(vm.event_loop, vm.settling, vm.confined)?;
        let traps = vm.debugger.as_ref().map(|_| Traps::new().map(Arc::new)).transpose()?;
        let vcpus = Vcpus::spawn(
            vm.cpus,
            &vm.kept.config.cpu_affinity,
            &Arc::new(vm.machine),
            &vm.events,
            &ended,
            Beginning { paused, confined: vm.confined, traps: traps.clone() },
        )?;
        let debugger = match vm.debugger.zip(traps) {
            Some((listener, traps)) => {
                let (guest, memory) = (Box::new(vcpus.control().clone()), vm.kept.memory.clone());
                let place = gdb::Place { listener, guest, memory, traps, ended: ended.clone() };
                Some(Debugger::spawn(place, vm.confined)?)
            }
            None => None,
        };
        let running = Self { vcpus, debugger, ended, _terminal: terminal, kept: vm.kept, event_thread };
        if !paused {
            running.kept.platform.attend();
        }
        Ok(running)
    }

    /// The machine as it was configured, its engine decided.
    pub fn config(&self) -> &VmConfig {
        &self.kept.config
    }

    /// Has the guest stand still, with all its devices. Does nothing if it does already.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn pause(&self) -> Result<(), CpuError> {
        self.vcpus.pause()?;
        self.event_thread.hold();
        Ok(())
    }

    /// Lets a paused guest go on.
    pub fn resume(&self) {
        self.event_thread.release();
        self.vcpus.resume();
        self.kept.platform.attend();
    }

    /// Whether the guest stands still.
    pub fn is_paused(&self) -> bool {
        self.vcpus.is_paused()
    }

    /// Writes the paused machine to two files, `state` and `memory`, which another process can start from by
    /// [`Vm::restore`]. The machine can go on afterwards. Disks are not copied: they must be as they are now when the
    /// snapshot is used.
    ///
    /// # Errors
    /// The machine is not paused, a file cannot be written, or there is nothing that a diff could differ from. Files of
    /// those names stay as they were.
    pub fn snapshot(&self, state: &Path, memory: &Path, kind: SnapshotKind) -> Result<(), SnapshotError> {
        let kept = &self.kept;
        let saved = Snapshot {
            config: kept.config.clone(),
            taken_at_ns: wall_clock_ns(),
            cpu_model: kept.cpu_model.clone(),
            cpus: self.vcpus.save()?,
            platform: kept.platform.save()?,
            devices: kept.devices.save()?,
            serial: kept.devices.save_serial(),
        };
        let ram = kept.ram.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (kind, &*ram) {
            (SnapshotKind::Full, ram) => memory::write_full(&kept.memory, ram, &kept.pages, memory),
            (SnapshotKind::Diff, Ram::Private(_)) => memory::write_diff(&kept.memory, &kept.pages, memory),
            (SnapshotKind::Diff, _) => return Err(SnapshotError::NoBase),
        }
        .map_err(SnapshotError::file("write", memory))?;
        format::write(state, &saved)?;
        self.track(ram, kind, memory)
    }

    /// Where diffs are wanted, has RAM be a copy of the full snapshot that was just written: from now on the kernel
    /// knows what has changed.
    fn track(
        &self,
        mut ram: MutexGuard<'_, Ram>,
        kind: SnapshotKind,
        path: &Path,
    ) -> Result<(), SnapshotError> {
        if !self.kept.config.track_dirty_pages || kind == SnapshotKind::Diff {
            return Ok(());
        }
        let file = File::open(path).map_err(SnapshotError::file("open", path))?;
        crate::memory::become_copy_of(&self.kept.memory, &file).map_err(SnapshotError::file("map", path))?;
        *ram = Ram::Private(file);
        Ok(())
    }

    /// Gives disk `index` another file, other limits, or just another look at the size of its file. A snapshot is of the
    /// machine with them.
    ///
    /// # Errors
    /// The file cannot be used, or the host gives no timer. Whatever failed is as it was.
    pub fn update_disk(
        &mut self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError> {
        let Kept { devices, config, root, .. } = &mut self.kept;
        let (handles, disk) = (devices.handles(), config.disks.get_mut(index));
        let disk = disk.ok_or(DeviceError::NoSuch { kind: "disk", index })?;
        if path.is_some() || limits.is_none() {
            handles.update_disk(index, path)?;
            let known_as =
                |path| root.as_deref().map_or_else(|| PathBuf::from(path), |root| jail::on_host(root, path));
            disk.path = path.map_or_else(|| disk.path.clone(), known_as);
        }
        if let Some(limits) = limits {
            handles.limit_disk(index, limits)?;
            disk.rate_limiter = disk.rate_limiter.changed_by(limits);
        }
        Ok(())
    }

    /// Gives network card `index` other limits. A snapshot is of the machine with them.
    ///
    /// # Errors
    /// The host gives no timer.
    pub fn update_net(
        &mut self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError> {
        let Kept { devices, config, .. } = &mut self.kept;
        let net = config.nets.get_mut(index).ok_or(DeviceError::NoSuch { kind: "network card", index })?;
        devices.handles().limit_net(index, receive, transmit)?;
        net.rx_rate_limiter = net.rx_rate_limiter.changed_by(receive);
        net.tx_rate_limiter = net.tx_rate_limiter.changed_by(transmit);
        Ok(())
    }

    /// What the engine and the host count of the machine.
    pub fn statistics(&self) -> Vec<Statistics> {
        self.kept.platform.statistics()
    }

    /// The devices that the caller has a say in.
    pub fn handles(&self) -> &Handles {
        self.kept.devices.handles()
    }

    /// A descriptor that becomes readable when the guest has ended, and stays so.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// How the guest ended, or `None` while it runs.
    ///
    /// # Errors
    /// The guest died, the host failed it, or its end has been reported already.
    pub fn try_wait(&mut self) -> Result<Option<VmExit>, CpuError> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&self.ended, PollFlags::IN)], Some(&now));
        match ended {
            Ok(0) => Ok(None),
            Ok(_) => self.join().map(Some),
            Err(error) => Err(CpuError::Thread(error.to_string())),
        }
    }

    /// Waits for the end of the guest and says how it ended.
    ///
    /// # Errors
    /// The guest died, the host failed it, or its end has been reported already.
    pub fn wait(mut self) -> Result<VmExit, CpuError> {
        self.join()
    }

    /// Ends the guest at once, as pulling the plug does, and says how it ended.
    ///
    /// # Errors
    /// The guest had died before, or its end has been reported already.
    pub fn stop(mut self) -> Result<VmExit, CpuError> {
        self.request_stop();
        self.join()
    }

    /// Asks the guest to end without waiting for it: [`Self::exit_fd`] tells when it has.
    pub fn request_stop(&self) {
        self.event_thread.release();
        self.vcpus.end(VmExit::Stopped);
    }

    /// Tells the guest that it is a copy of another from now on (a new generation id), so that it reseeds its random
    /// generator. One without ACPI does not hear of it; our agent goes by the end of its connection.
    ///
    /// # Errors
    /// The host gives no random bytes, or cannot signal the interrupt.
    pub fn renew_generation(&self) -> Result<(), DeviceError> {
        self.kept.devices.renew_generation()
    }

    /// Waits for the end of the guest, like [`Self::wait`], and tells what the engine has counted, if it has.
    ///
    /// # Errors
    /// As for [`Self::wait`].
    pub fn wait_for_profile(mut self) -> Result<(VmExit, Option<Profile>), CpuError> {
        let outcome = self.outcome()?;
        Ok((outcome.end.map_err(|error| self.name_place(error))?, outcome.profile))
    }

    fn join(&mut self) -> Result<VmExit, CpuError> {
        self.outcome()?.end.map_err(|error| self.name_place(error))
    }

    fn outcome(&mut self) -> Result<Outcome, CpuError> {
        let outcome = self.vcpus.join();
        if let Some(debugger) = &mut self.debugger {
            debugger.join();
        }
        outcome
    }

    /// Adds the kernel's name for the place of a death, where symbols were given.
    fn name_place(&self, mut error: CpuError) -> CpuError {
        if let (CpuError::Died(death), Some(path)) = (&mut error, &self.kept.symbols) {
            match Symbols::read(path) {
                Ok(symbols) => death.name_place(&symbols),
                Err(error) => tracing::warn!(%error, "no symbol for the place where the guest died"),
            }
        }
        error
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        if !self.vcpus.is_joined() {
            self.request_stop();
            if let Err(error) = self.join() {
                tracing::debug!(%error, "a guest that nobody waited for had ended already");
            }
        }
    }
}

/// A new eventfd.
pub(crate) fn signal() -> Result<Arc<OwnedFd>, CpuError> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    Ok(Arc::new(fd.map_err(|error| CpuError::Thread(error.to_string()))?))
}

/// Signals an eventfd; whether that worked.
pub(crate) fn raise(event: &OwnedFd) -> bool {
    let result = rustix::io::write(event, &1u64.to_ne_bytes());
    if let Err(error) = result {
        tracing::error!(%error, "cannot signal a thread");
    }
    result.is_ok()
}
