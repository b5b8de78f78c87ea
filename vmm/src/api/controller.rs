//! The state of the API, and the only one that changes it.
//!
//! ```text
//!                 PUT /boot-source, …          PATCH /vm
//!                      ┌──┐                 ┌──── Paused ────┐
//!                      ▼  │                 │                ▼
//!   (no machine) ──► NotStarted ──start──► Running        Paused ◄─┐
//!                         │                 ▲                │     │
//!                         │                 └─── Resumed ────┘     │
//!                         └─────── PUT /snapshot/load ─────────────┘
//! ```
//!
//! Running or paused is the guest's own state; when it ends, so does the server.

use std::sync::{Arc, Mutex};

use super::action::{Action, Change, Part};
use super::description::Description;
use super::guest::{Guest, Maker, Restore};
use super::http::{Request, Response, Status};
use super::metrics::MetricsFile;
use super::model::{Balloon, InstanceInfo, InstanceState, Logger, SnapshotCreate, SnapshotLoad, Version};
use super::start_events::StartEvents;
use super::{ApiError, metrics, route};
use crate::config::{Engine, RateLimiterConfig, TapSource};
use crate::machine::DeviceError;
use crate::snapshot::Overrides;
use crate::virtio::Balloon as VirtioBalloon;
use crate::virtio::attach::lock;

/// Says where logs go, which is not this crate's to decide.
pub trait LogControl {
    /// Sends logs where `logger` says.
    ///
    /// # Errors
    /// Says why that cannot be done.
    fn set(&mut self, logger: &Logger) -> Result<(), String>;
}

/// Logs that stay as they are.
impl LogControl for () {
    fn set(&mut self, _: &Logger) -> Result<(), String> {
        Err("the logs of this process go where whoever started it reads them".to_owned())
    }
}

/// How the server presents itself, and what it works with.
pub(crate) struct Options {
    /// The machine's name.
    pub(crate) id: String,
    /// What runs the kernels of machines that are started here.
    pub(crate) engine: Engine,
    /// Where logs go.
    pub(crate) logs: Box<dyn LogControl>,
    /// Which files clients may name.
    pub(crate) files: Files,
}

/// Which files clients may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// Those that this process can reach.
    All,
    /// Those in the jail's root, which is this process's.
    InRoot,
    /// None: the jail's root is empty.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            id: "anonymous-instance".to_owned(),
            engine: Engine::Auto,
            logs: Box::new(()),
            files: Files::All,
        }
    }
}

/// The API of one machine.
pub(super) struct Controller {
    options: Options,
    /// None where the machine was there before.
    maker: Option<Box<dyn Maker>>,
    /// The steps of the start.
    start: Arc<StartEvents>,
    /// What has been said before the start, or what the machine is.
    description: Description,
    /// Something other than logs and metrics has been configured.
    configured: bool,
    guest: Option<Box<dyn Guest>>,
    metrics: Option<MetricsFile>,
}

impl Controller {
    /// A controller that has no machine yet, but perhaps a description of one.
    pub(super) fn new(options: Options, maker: Option<Box<dyn Maker>>, start: Arc<StartEvents>) -> Self {
        Self {
            options,
            maker,
            start,
            description: Description::default(),
            configured: false,
            guest: None,
            metrics: None,
        }
    }

    /// Takes a whole description, as if its parts had been put one by one.
    ///
    /// # Errors
    /// A file for logs or metrics cannot be used.
    pub(super) fn configure_all(&mut self, description: Description) -> Result<(), ApiError> {
        let (logger, metrics) = (description.logger.clone(), description.metrics.clone());
        self.description = description;
        self.configured = true;
        for part in logger.map(Part::Logger).into_iter().chain(metrics.map(Part::Metrics)) {
            self.configure(part)?;
        }
        Ok(())
    }

    /// Takes a machine that runs already.
    pub(super) fn adopt(&mut self, guest: Box<dyn Guest>) {
        let mut description = Description::of(guest.config());
        description.logger = self.description.logger.take();
        description.metrics = self.description.metrics.take();
        self.description = description;
        self.guest = Some(guest);
    }

    /// The machine, if it has started.
    pub(super) fn guest_mut(&mut self) -> Option<&mut (dyn Guest + 'static)> {
        self.guest.as_deref_mut()
    }

    /// The machine, if it has started.
    pub(super) fn guest(&self) -> Option<&dyn Guest> {
        self.guest.as_deref()
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, request: &Request) -> Response {
        let refuse = |message: String| {
            tracing::info!(method = %request.method, path = request.path, %message, "a request is refused");
            Response::fault(Status::BadRequest, &message)
        };
        match route::parse(request) {
            Err(error) => refuse(error.to_string()),
            Ok(action) => self.carry_out(action).unwrap_or_else(|error| refuse(self.explain(&error))),
        }
    }

    /// What is wrong; where a file is not there, also where it was looked for.
    fn explain(&self, error: &ApiError) -> String {
        if self.options.files == Files::InRoot && error.is_of_a_missing_file() {
            return format!("{error}; this machine finds files in its jail's root only (--jail-root)");
        }
        error.to_string()
    }

    fn carry_out(&mut self, action: Action) -> Result<Response, ApiError> {
        match action {
            Action::Describe => return Ok(Response::value(&self.info())),
            Action::Version => return Ok(Response::value(&Version { firecracker_version: version() })),
            Action::ShowConfig => return Ok(Response::value(&self.current())),
            Action::ShowMachine => return Ok(Response::value(&self.description.machine_config)),
            Action::ShowMetrics => return Ok(Response::value(&self.figures())),
            Action::ShowBalloon => return Ok(Response::value(&self.balloon_config()?)),
            Action::ShowBalloonStatistics => {
                let guest = self.guest.as_ref().ok_or(ApiError::NotStarted)?;
                return Ok(Response::value(&lock(&*balloon_of(&**guest)?).stats()));
            }
            Action::Configure(part) => self.configure(part)?,
            Action::Start => self.start()?,
            Action::Load(load) => self.load(&load)?,
            Action::Change(change) => self.change(change)?,
            Action::FlushMetrics => self.flush_metrics()?,
        }
        Ok(Response::done())
    }

    /// What the machine is to be, or is.
    fn current(&self) -> Description {
        let mut description = self.description.clone();
        description.balloon = self.balloon_config().ok();
        description
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo {
            id: self.options.id.clone(),
            state: match &self.guest {
                None => InstanceState::NotStarted,
                Some(guest) if guest.is_paused() => InstanceState::Paused,
                Some(_) => InstanceState::Running,
            },
            vmm_version: version(),
            app_name: "carve".to_owned(),
        }
    }

    fn configure(&mut self, part: Part) -> Result<(), ApiError> {
        if self.guest.is_some() {
            return Err(ApiError::Started);
        }
        // What cannot be had leaves the description as it was.
        let mut description = self.description.clone();
        match part {
            Part::Logger(logger) => {
                self.options.logs.set(&logger).map_err(ApiError::Logs)?;
                description.logger = Some(logger);
                self.description = description;
                return Ok(());
            }
            Part::Metrics(config) => {
                self.metrics = Some(MetricsFile::open(&config.metrics_path)?);
                description.metrics = Some(config);
                self.description = description;
                return Ok(());
            }
            Part::BootSource(boot_source) => description.boot_source = Some(boot_source),
            Part::Machine(machine) => description.machine_config = machine,
            Part::MachineUpdate(update) => {
                description.machine_config = description.machine_config.updated(&update)?;
            }
            Part::Drive(drive) => description.put_drive(drive)?,
            Part::Network(interface) => description.put_network_interface(interface),
            Part::Vsock(vsock) => description.vsock = Some(vsock),
            Part::Balloon(balloon) => description.balloon = Some(balloon),
            Part::Entropy(entropy) => description.entropy = Some(entropy),
            Part::Pmem(pmem) => description.put_pmem(pmem)?,
            Part::Serial(serial) => description.serial = Some(serial),
        }
        description.check()?;
        self.description = description;
        self.configured = true;
        Ok(())
    }

    /// Starts the machine that has been described.
    ///
    /// # Errors
    /// It runs already, or cannot be started; then it can be described otherwise.
    pub(super) fn start(&mut self) -> Result<(), ApiError> {
        if self.guest.is_some() {
            return Err(ApiError::Started);
        }
        let config = self.description.to_config(self.options.engine)?;
        self.guest = Some(self.maker()?.boot(&config)?);
        // There is one machine, and it needs no more of the host.
        self.maker = None;
        Ok(())
    }

    fn maker(&self) -> Result<&dyn Maker, ApiError> {
        self.maker.as_deref().ok_or(ApiError::Started)
    }

    fn load(&mut self, load: &SnapshotLoad) -> Result<(), ApiError> {
        if self.guest.is_some() {
            return Err(ApiError::Started);
        }
        if self.configured {
            return Err(ApiError::Configured);
        }
        let nets = load.network_overrides.iter();
        let restore = Restore {
            state: load.snapshot_path.clone(),
            memory: load.memory()?.clone(),
            overrides: Overrides {
                nets: nets
                    .map(|net| (net.iface_id.clone(), TapSource::Name(net.host_dev_name.clone())))
                    .collect(),
                ..Overrides::default()
            },
        };
        self.restore(restore, load.resume_vm)
    }

    fn restore(&mut self, restore: Restore, resume: bool) -> Result<(), ApiError> {
        let guest = self.maker()?.restore(restore)?;
        if resume {
            guest.resume();
        }
        self.adopt(guest);
        self.maker = None;
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), ApiError> {
        let guest = self.guest.as_mut().ok_or(ApiError::NotStarted)?;
        if self.options.files == Files::None && change.names_files() {
            return Err(ApiError::NoFiles);
        }
        match change {
            Change::Pause => guest.pause()?,
            Change::Resume => guest.resume(),
            Change::Stop => guest.stop(),
            Change::Snapshot(SnapshotCreate { snapshot_type, snapshot_path, mem_file_path }) => {
                guest.snapshot(&snapshot_path, &mem_file_path, snapshot_type)?;
            }
            Change::Drive(update) => {
                let files = self.description.drives.iter_mut().filter(|drive| drive.is_file());
                let mut drives = files.enumerate();
                let (index, drive) = drives
                    .find(|(_, drive)| drive.drive_id == update.drive_id)
                    .ok_or_else(|| no_device("drive", &update.drive_id))?;
                let path = update.path_on_host.as_deref();
                guest.update_disk(index, path.map(AsRef::as_ref), update.rate_limiter.as_ref())?;
                drive.path_on_host = update.path_on_host.or(drive.path_on_host.take());
                drive.rate_limiter = changed(drive.rate_limiter, update.rate_limiter);
            }
            Change::Network(update) => {
                let mut nets = self.description.network_interfaces.iter_mut().enumerate();
                let (index, net) = nets
                    .find(|(_, net)| net.iface_id == update.iface_id)
                    .ok_or_else(|| no_device("network interface", &update.iface_id))?;
                let (receive, transmit) = (update.rx_rate_limiter, update.tx_rate_limiter);
                guest.update_net(index, &receive.unwrap_or_default(), &transmit.unwrap_or_default())?;
                net.rx_rate_limiter = changed(net.rx_rate_limiter, receive);
                net.tx_rate_limiter = changed(net.tx_rate_limiter, transmit);
            }
            Change::Balloon(update) => {
                lock(&*balloon_of(&**guest)?).set_target_mib(update.amount_mib).map_err(DeviceError::from)?;
            }
            Change::BalloonStatistics(update) => {
                let balloon = balloon_of(&**guest)?;
                let mut balloon = lock(&*balloon);
                let (before, after) =
                    (balloon.config().stats_polling_interval_s, update.stats_polling_interval_s);
                if (before == 0) != (after == 0) {
                    return Err(ApiError::BalloonStatistics);
                }
                balloon.set_stats_interval(after).map_err(DeviceError::from)?;
            }
        }
        Ok(())
    }

    fn balloon_config(&self) -> Result<Balloon, ApiError> {
        match &self.guest {
            Some(guest) => Ok(Balloon::of(lock(&*balloon_of(&**guest)?).config())),
            None => self.description.balloon.clone().ok_or(ApiError::NoBalloon),
        }
    }

    fn figures(&self) -> metrics::Figures {
        metrics::collect(self.guest.as_deref(), &self.start.seen())
    }

    /// Writes what has been counted since the last time.
    ///
    /// # Errors
    /// There is no file for it, or it cannot be written.
    pub(super) fn flush_metrics(&mut self) -> Result<(), ApiError> {
        let figures = self.figures();
        self.metrics.as_mut().ok_or(ApiError::NoMetrics)?.write(figures)
    }

    /// Whether metrics have a file.
    pub(super) fn has_metrics(&self) -> bool {
        self.metrics.is_some()
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn no_device(kind: &'static str, id: &str) -> ApiError {
    ApiError::NoDevice { kind, id: id.to_owned() }
}

/// The limits of a device once a change of them is made.
fn changed(
    limits: Option<RateLimiterConfig>,
    changes: Option<RateLimiterConfig>,
) -> Option<RateLimiterConfig> {
    changes.map_or(limits, |changes| Some(limits.unwrap_or_default().changed_by(&changes)))
}

fn balloon_of(guest: &dyn Guest) -> Result<Arc<Mutex<VirtioBalloon>>, ApiError> {
    guest.balloon().ok_or(ApiError::NoBalloon)
}

#[cfg(test)]
mod tests;
