//! The virtio devices of a running machine, as whoever has a say in them reaches them.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

use super::devices::DeviceError;
use crate::config::RateLimiterConfig;
use crate::cpu::exit_counts::ExitCounts;
use crate::virtio::attach::lock;
use crate::virtio::device::SharedDevice;
use crate::virtio::net::NetError;
use crate::virtio::{Balloon, Block, Console, Counter, Net};

/// What one device has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceCounters {
    /// What kind of device: `block`, `net`, `vsock`, `entropy`, …
    pub kind: &'static str,
    /// Its name, where there can be several of the kind.
    pub id: Option<String>,
    /// The figures.
    pub counters: Vec<Counter>,
}

/// A device among its like.
struct Counted {
    kind: &'static str,
    id: Option<String>,
    device: SharedDevice,
}

/// Devices of a running machine, in the order of their windows. Lock them for as short as can be: the guest may be
/// waiting.
#[derive(Default)]
pub struct Handles {
    /// The memory balloon: its size, what the guest tells of its memory.
    pub balloon: Option<Arc<Mutex<Balloon>>>,
    /// The virtio console: the size of its terminal.
    pub console: Option<Arc<Mutex<Console>>>,
    disks: Vec<Arc<Mutex<Block>>>,
    nets: Vec<Arc<Mutex<Net>>>,
    all: Vec<Counted>,
    /// What each vCPU exited for.
    pub(super) exits: Arc<[ExitCounts]>,
}

impl Handles {
    /// None yet, in a machine of so many vCPUs.
    pub(super) fn of(vcpus: u8) -> Self {
        let exits = (0..vcpus).map(|_| ExitCounts::default()).collect();
        Self { exits, ..Self::default() }
    }

    /// Keeps a disk.
    pub(super) fn keep_disk(&mut self, id: &str, disk: Block) -> SharedDevice {
        let disk = Arc::new(Mutex::new(disk));
        self.disks.push(disk.clone());
        let id = name(id, "drive", self.disks.len());
        self.keep("block", Some(id), disk)
    }

    /// Keeps a network card.
    pub(super) fn keep_net(&mut self, id: &str, net: Net) -> SharedDevice {
        let net = Arc::new(Mutex::new(net));
        self.nets.push(net.clone());
        let id = name(id, "net", self.nets.len());
        self.keep("net", Some(id), net)
    }

    /// Keeps the balloon.
    pub(super) fn keep_balloon(&mut self, balloon: Balloon) -> SharedDevice {
        let balloon = Arc::new(Mutex::new(balloon));
        self.balloon = Some(balloon.clone());
        self.keep("balloon", None, balloon)
    }

    /// Keeps the console.
    pub(super) fn keep_console(&mut self, console: Console) -> SharedDevice {
        let console = Arc::new(Mutex::new(console));
        self.console = Some(console.clone());
        self.keep("console", None, console)
    }

    /// Keeps any device for its counters.
    pub(super) fn keep(
        &mut self,
        kind: &'static str,
        id: Option<String>,
        device: SharedDevice,
    ) -> SharedDevice {
        self.all.push(Counted { kind, id, device: device.clone() });
        device
    }

    /// Gives disk `index` another file; without one, the size of its file may have changed.
    ///
    /// # Errors
    /// The file cannot be used; the disk is as it was.
    pub(super) fn update_disk(&self, index: usize, path: Option<&Path>) -> Result<(), DeviceError> {
        Ok(self.disk(index)?.update(path)?)
    }

    /// Gives disk `index` other limits.
    ///
    /// # Errors
    /// The host gives no timer.
    pub(super) fn limit_disk(&self, index: usize, limits: &RateLimiterConfig) -> Result<(), DeviceError> {
        Ok(self.disk(index)?.update_rate_limiter(limits)?)
    }

    fn disk(&self, index: usize) -> Result<MutexGuard<'_, Block>, DeviceError> {
        self.disks.get(index).map(|disk| lock(disk)).ok_or(DeviceError::NoSuch { kind: "disk", index })
    }

    /// Gives network card `index` other limits.
    ///
    /// # Errors
    /// The host gives no timer.
    pub(super) fn limit_net(
        &self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError> {
        let net = self.nets.get(index).ok_or(DeviceError::NoSuch { kind: "network card", index })?;
        Ok(lock(net).update_limits(receive, transmit).map_err(NetError::Timer)?)
    }

    /// What each device and each vCPU has counted.
    pub fn counters(&self) -> Vec<DeviceCounters> {
        let counters = |counted: &Counted| DeviceCounters {
            kind: counted.kind,
            id: counted.id.clone(),
            counters: lock(&counted.device).counters(),
        };
        let exits = self.exits.iter().enumerate().map(|(vcpu, exits)| DeviceCounters {
            kind: "vcpu",
            id: Some(vcpu.to_string()),
            counters: exits.counters(),
        });
        self.all.iter().map(counters).chain(exits).collect()
    }
}

/// The name of the `nth` device of a kind.
fn name(id: &str, kind: &str, nth: usize) -> String {
    if id.is_empty() { format!("{kind}{}", nth.saturating_sub(1)) } else { id.to_owned() }
}
