//! A guest that only remembers what it was told, and whoever makes it.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};

use super::controller::{Controller, Files, LogControl, Options};
use super::guest::{Guest, Maker, Restore};
use super::http::{Method, Request, Response};
use super::model::Logger;
use super::start_events::StartEvents;
use crate::config::{ConfigError, RateLimiterConfig, VmConfig};
use crate::cpu::CpuError;
use crate::events::{BootEvent, EventSink, Milestone};
use crate::machine::{BuildError, DeviceCounters, DeviceError, Statistic, Statistics, VmExit};
use crate::snapshot::{SnapshotError, SnapshotKind};
use crate::virtio::{Balloon, Counter};

/// What was done, in order.
pub(super) type Log = Rc<RefCell<Vec<String>>>;

struct FakeGuest {
    config: VmConfig,
    paused: Cell<bool>,
    log: Log,
    balloon: Option<Arc<Mutex<Balloon>>>,
    ended: OwnedFd,
}

impl FakeGuest {
    fn note(&self, what: String) {
        self.log.borrow_mut().push(what);
    }
}

impl Guest for FakeGuest {
    fn config(&self) -> &VmConfig {
        &self.config
    }

    fn pause(&self) -> Result<(), CpuError> {
        self.paused.set(true);
        Ok(())
    }

    fn resume(&self) {
        self.paused.set(false);
    }

    fn is_paused(&self) -> bool {
        self.paused.get()
    }

    fn stop(&self) {
        rustix::io::write(&self.ended, &1u64.to_ne_bytes()).unwrap();
    }

    fn snapshot(&self, state: &Path, memory: &Path, kind: SnapshotKind) -> Result<(), SnapshotError> {
        if !self.is_paused() {
            return Err(CpuError::Thread("the guest is not paused".into()).into());
        }
        self.note(format!("snapshot {} {} {kind:?}", state.display(), memory.display()));
        Ok(())
    }

    fn update_disk(
        &mut self,
        index: usize,
        path: Option<&Path>,
        limits: Option<&RateLimiterConfig>,
    ) -> Result<(), DeviceError> {
        let ops = limits.and_then(|limits| limits.ops).map(|ops| ops.size);
        self.note(format!("disk {index} {path:?} {ops:?}"));
        Ok(())
    }

    fn update_net(
        &mut self,
        index: usize,
        receive: &RateLimiterConfig,
        transmit: &RateLimiterConfig,
    ) -> Result<(), DeviceError> {
        let ops = |limits: &RateLimiterConfig| limits.ops.map(|ops| ops.size);
        self.note(format!("net {index} {:?} {:?}", ops(receive), ops(transmit)));
        Ok(())
    }

    fn balloon(&self) -> Option<Arc<Mutex<Balloon>>> {
        self.balloon.clone()
    }

    fn counters(&self) -> Vec<DeviceCounters> {
        let device = |id: &str, value| DeviceCounters {
            kind: "block",
            id: Some(id.to_owned()),
            counters: vec![Counter { name: "read_count", value }],
        };
        vec![device("a", 3), device("b", 4)]
    }

    fn statistics(&self) -> Vec<Statistics> {
        let figure = |name: &str, value, is_now| Statistic { name: name.into(), value, is_now };
        vec![Statistics {
            group: "kvm_vm".into(),
            figures: vec![figure("exits", 9, false), figure("pages", 5, true)],
        }]
    }

    fn exit_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    fn outcome(&mut self) -> Result<Option<VmExit>, CpuError> {
        Ok(rustix::io::read(&self.ended, &mut [0; 8]).ok().map(|_| VmExit::Stopped))
    }
}

/// Makes such guests, of at least 4 MiB.
pub(super) struct FakeMaker(pub(super) Log);

impl FakeMaker {
    fn make(&self, config: VmConfig) -> Box<dyn Guest> {
        let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let balloon =
            config.balloon.as_ref().map(|balloon| Balloon::new(balloon, config.memory_mib).unwrap());
        let balloon = balloon.map(|balloon| Arc::new(Mutex::new(balloon)));
        Box::new(FakeGuest { config, paused: Cell::new(false), log: self.0.clone(), balloon, ended })
    }
}

impl Maker for FakeMaker {
    fn boot(&self, config: &VmConfig) -> Result<Box<dyn Guest>, BuildError> {
        if config.memory_mib < 4 {
            return Err(ConfigError::Memory(config.memory_mib).into());
        }
        self.0.borrow_mut().push(format!("boot {} {:?}", config.kernel.display(), config.cmdline));
        Ok(self.make(config.clone()))
    }

    fn restore(&self, restore: Restore) -> Result<Box<dyn Guest>, BuildError> {
        let mut config = VmConfig::new("restored", 64);
        config.nets.push(crate::config::NetConfig::new(crate::config::TapSource::Name("old".into())));
        config.nets[0].id = "eth0".into();
        restore.overrides.apply(&mut config).map_err(SnapshotError::from)?;
        self.0.borrow_mut().push(format!("restore {} {}", restore.state.display(), restore.memory.display()));
        let guest = self.make(config);
        guest.pause()?;
        Ok(guest)
    }
}

struct Logs;

impl LogControl for Logs {
    fn set(&mut self, _: &Logger) -> Result<(), String> {
        Ok(())
    }
}

/// A controller of fake guests, and what they are told.
pub(super) fn controller() -> (Controller, Log) {
    controller_with(Files::All)
}

/// The same, whose clients may name these files.
pub(super) fn controller_with(files: Files) -> (Controller, Log) {
    let log = Log::default();
    let options = Options { logs: Box::new(Logs), files, ..Options::default() };
    let events: Arc<Mutex<Vec<BootEvent>>> = Arc::default();
    let start = StartEvents::before(events);
    start.record(BootEvent { milestone: Milestone::FirstRun, at_ns: 11 });
    (Controller::new(options, Some(Box::new(FakeMaker(log.clone()))), start), log)
}

/// The controller's answer.
pub(super) fn ask(controller: &mut Controller, method: Method, path: &str, body: &str) -> Response {
    controller.answer(&Request { method, path: path.into(), body: body.into(), closes: false })
}
