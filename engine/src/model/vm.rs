//! The virtual machine model: the hardware carved, by the VMM in `vmm`, with the agent in it as the app's init.
//!
//! The VMM is a process of its own, which the monitor owns. The image's layers are the same EROFS files that a container mounts, as read-only
//! disks; the read-write layer is an ext4 disk. The agent calls on a Unix socket (vsock in the guest), says it is
//! ready, and is told what to run.
//!
//! ```text
//! booting ──agent calls──► connected ──Ready──► Start sent ──Started…Exited──► powering off
//! ```

mod cgroup;

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{fs::chown, net::UnixListener},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agent::protocol::{ENGINE_PORT, FromAgent, Network, RootDisks, Start as Boot, ToAgent};
use rustix::event::PollFlags;
use vmm::{
    BootEvent, DiskConfig, JailConfig, Milestone, NetConfig, ProcessError, ProcessOptions, TapSource,
    VmConfig, VmProcess, VsockConfig,
    virtio::{MacAddress, Tap},
};

use self::cgroup::MachineCgroup;
use super::{Running, Start};
use crate::{
    control::short_path,
    disk,
    error::{EngineError, Result},
    events::Events,
    files, image_process,
    instance::Instance,
    network::{self, MTU, Place},
    spec::Guest,
};

/// RAM of a machine whose user asks for none, in MiB.
const DEFAULT_MEMORY_MIB: u32 = 256;
/// The guest's address in vsock; each machine has a socket of its own, so all can have the same.
const GUEST_CID: u32 = 3;
/// The only directory of the instance's that its VMM can reach, and its socket there.
const SOCKETS: &str = "vsock";
const SOCKET: &str = "vm.sock";
/// How long a guest may take to power off after its app has ended.
const POWER_OFF: Duration = Duration::from_secs(10);

/// Prepares disks, network and cgroup, and boots.
pub(super) fn start(start: Start<'_>) -> Result<Box<dyn Running>> {
    let Start { engine, instance, image, events } = start;
    let memory_mib = memory_mib(instance)?;
    let place = network::reserve(engine, instance)?;
    disk::make_writable(&engine.root, &instance.writable())?;
    let layers: Vec<_> = image.layers.iter().map(|l| l.erofs.clone()).collect();
    events.record("rootfs.ready");
    // Open until the machine has a descriptor of its own.
    let tap = place.as_ref().map(|place| open_tap(engine, place)).transpose()?;
    let nets = place.iter().zip(&tap).map(|(place, tap)| net(place, tap)).collect();
    events.record("network.ready");

    let sockets = instance.dir().join(SOCKETS);
    files::make_dir(&sockets)?;
    let listener = listen(&sockets)?;
    let jail = jail(instance, &sockets)?;
    let boot = boot(instance, image, layers.len(), place.as_ref())?;
    let config = config(instance, &layers, memory_mib, nets, sockets.join(SOCKET))?;
    let cgroup = MachineCgroup::create(instance)?;
    events.record("cgroup.ready");
    let vm = match power_on(&config, jail, instance, &cgroup) {
        Ok(vm) => vm,
        Err(error) => {
            cgroup.remove()?;
            return Err(error);
        }
    };
    Ok(Box::new(Machine {
        vm: Some(vm),
        gone: None,
        listener,
        agent: None,
        boot: Some(boot),
        early: Vec::new(),
        cgroup,
        ended: false,
        _place: place,
    }))
}

fn power_on(
    config: &VmConfig,
    jail: Option<JailConfig>,
    instance: &Instance,
    cgroup: &MachineCgroup,
) -> Result<VmProcess> {
    let sink = Milestones(Mutex::new(Events::open(instance.spec.events.as_deref())?));
    let mut adopt = |pid| cgroup.add(pid).map_err(io::Error::other);
    let options = ProcessOptions { jail, adopt: Some(&mut adopt), ..ProcessOptions::default() };
    VmProcess::spawn(config, options, Arc::new(sink)).map_err(|e| EngineError::Invalid(e.to_string()))
}

fn memory_mib(instance: &Instance) -> Result<u32> {
    let Some(bytes) = instance.spec.memory else { return Ok(DEFAULT_MEMORY_MIB) };
    u32::try_from(bytes >> 20).ok().filter(|mib| *mib >= 32).ok_or_else(|| {
        EngineError::Invalid(format!(
            "{bytes} bytes of memory do not do for a virtual machine; give it 32m to 4095g"
        ))
    })
}

fn open_tap(engine: &crate::Engine, place: &Place) -> Result<Tap> {
    let tap = Tap::named(&place.link).map_err(|e| EngineError::Network(e.to_string()))?;
    network::connect_tap(engine, place)?;
    Ok(tap)
}

fn net(place: &Place, tap: &Tap) -> NetConfig {
    NetConfig {
        mac: Some(MacAddress(place.mac)),
        mtu: MTU,
        ..NetConfig::new(TapSource::Fd(tap.as_fd().as_raw_fd()))
    }
}

/// Where the agent calls.
fn listen(sockets: &Path) -> Result<UnixListener> {
    let dir = File::open(sockets).map_err(EngineError::file("open", sockets))?;
    let path = short_path(&dir, &format!("{SOCKET}_{ENGINE_PORT}"));
    let listener =
        UnixListener::bind(&path).map_err(EngineError::file("make the agent's socket in", sockets))?;
    listener.set_nonblocking(true).map_err(EngineError::file("set up the agent's socket in", sockets))?;
    Ok(listener)
}

fn config(
    instance: &Instance,
    layers: &[std::path::PathBuf],
    memory_mib: u32,
    nets: Vec<NetConfig>,
    uds_path: std::path::PathBuf,
) -> Result<VmConfig> {
    let missing = || EngineError::Invalid("a virtual machine needs a guest kernel".to_owned());
    let Guest { kernel, initramfs, engine, jail: _ } = instance.spec.guest.clone().ok_or_else(missing)?;
    let mut config = VmConfig::new(kernel, memory_mib);
    config.engine = engine;
    config.symbols = vmm::Symbols::beside(&config.kernel);
    config.initrd = Some(initramfs);
    config.own_kernel = true;
    let disk = |path: &Path, read_only, id: String| DiskConfig { read_only, id, ..DiskConfig::new(path) };
    config.disks = layers.iter().enumerate().map(|(i, path)| disk(path, true, format!("layer{i}"))).collect();
    config.disks.push(disk(&instance.writable(), false, "writable".to_owned()));
    config.nets = nets;
    config.vsock = Some(VsockConfig::new(GUEST_CID, uds_path));
    Ok(config)
}

/// The jail of the instance's VMM, whose user gets the sockets that it is to connect to.
fn jail(instance: &Instance, sockets: &Path) -> Result<Option<JailConfig>> {
    if !instance.spec.guest.as_ref().is_some_and(|guest| guest.jail) {
        return Ok(None);
    }
    let number = instance.id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let mut jail = JailConfig::for_machine(number.unwrap_or_default());
    // Nothing else that it writes is as long as its disk.
    let disk = instance.writable();
    jail.file_bytes = Some(disk.metadata().map_err(EngineError::file("measure", &disk))?.len());
    for path in [sockets.to_owned(), sockets.join(format!("{SOCKET}_{ENGINE_PORT}"))] {
        chown(&path, Some(jail.uid), Some(jail.gid))
            .map_err(EngineError::file("give the VMM's user", &path))?;
    }
    Ok(Some(jail))
}

/// What the agent is told.
fn boot(instance: &Instance, image: &image::Image, layers: usize, place: Option<&Place>) -> Result<Boot> {
    let index = |n: usize| u32::try_from(n).map_err(|_| EngineError::Invalid("too many layers".to_owned()));
    let own: Ipv4Addr = place.map_or(Ipv4Addr::LOCALHOST, |p| p.address);
    Ok(Boot {
        // Set when it is sent: a boot takes time.
        time_ns: 0,
        hostname: instance.name.clone(),
        root: RootDisks { layers: (0..index(layers)?).collect(), writable: index(layers)? },
        network: place.map(|p| Network {
            address: p.address,
            prefix: p.prefix,
            gateway: p.gateway,
            mtu: MTU,
        }),
        hosts: vec![(own.to_string(), instance.name.clone())],
        resolv_conf: image_process::resolv_conf(),
        process: image_process::process(instance, &image.config)?,
    })
}

/// The VMM's milestones as events of the instance.
struct Milestones(Mutex<Events>);

impl vmm::EventSink for Milestones {
    fn record(&self, event: BootEvent) {
        let name = match event.milestone {
            Milestone::KvmOpened => "vmm.kvm_opened",
            Milestone::MemoryMapped => "vmm.memory_mapped",
            Milestone::KernelLoaded => "vmm.kernel_loaded",
            Milestone::FirstRun => "vmm.first_run",
            // The rest is finer than anyone who compares models wants to know.
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record_at(
            name,
            event.at_ns,
            serde_json::Map::new(),
        );
    }
}

/// A virtual machine that runs.
struct Machine {
    /// Gone when the guest has ended.
    vm: Option<VmProcess>,
    /// How it ended, until that was told.
    gone: Option<String>,
    listener: UnixListener,
    agent: Option<crate::frames::Connection>,
    /// Gone when it was sent.
    boot: Option<Boot>,
    /// Input that came before the agent was ready for it.
    early: Vec<ToAgent>,
    cgroup: MachineCgroup,
    /// The app's end was reported.
    ended: bool,
    _place: Option<Place>,
}

impl Machine {
    fn take_the_agents_call(&mut self) -> Result<()> {
        if self.agent.is_none()
            && let Ok((stream, _)) = self.listener.accept()
        {
            let connection = crate::frames::Connection::new(stream);
            self.agent = Some(connection.map_err(EngineError::file("speak to", "the agent"))?);
        }
        Ok(())
    }

    fn hear_the_agent(&mut self, events: &mut Events) -> io::Result<Vec<FromAgent>> {
        let Some(agent) = &mut self.agent else { return Ok(Vec::new()) };
        agent.flush()?;
        agent.fill()?;
        let mut messages = Vec::new();
        while let Some(message) = agent.next()? {
            if message == FromAgent::Ready
                && let Some(mut boot) = self.boot.take()
            {
                events.record("guest.agent_ready");
                boot.time_ns = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
                agent.send(&ToAgent::Start(Box::new(boot)))?;
                for input in self.early.drain(..) {
                    agent.send(&input)?;
                }
                continue;
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// Takes what the VMM has to say.
    fn hear_the_vmm(&mut self) {
        let Some(vm) = &mut self.vm else { return };
        self.gone = match vm.try_wait() {
            Ok(None) => return,
            Ok(Some(how)) => Some(format!("it ended ({how:?})")),
            Err(error) => Some(error.to_string()),
        };
        self.vm = None;
    }

    /// How the machine ended, if it did so before the app's end was heard.
    fn died(&mut self) -> Option<EngineError> {
        let reason = self.gone.take()?;
        let when = if self.boot.is_some() { "before its agent was ready" } else { "while its app ran" };
        Some(EngineError::Invalid(format!("the guest ended {when}: {reason}")))
    }
}

impl Running for Machine {
    fn interests(&self, hold_output: bool) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::new();
        interests.extend(self.vm.as_ref().map(|vm| (vm.exit_fd(), PollFlags::IN)));
        match &self.agent {
            None => interests.push((self.listener.as_fd(), PollFlags::IN)),
            Some(agent) => {
                let out = if agent.backlog() > 0 { PollFlags::OUT } else { PollFlags::empty() };
                let flags = if hold_output || agent.at_end() { out } else { out | PollFlags::IN };
                if !flags.is_empty() {
                    interests.push((agent.as_fd(), flags));
                }
            }
        }
        interests
    }

    fn advance(&mut self, hold_output: bool, events: &mut Events) -> Result<Vec<FromAgent>> {
        self.hear_the_vmm();
        self.take_the_agents_call()?;
        let messages = match hold_output {
            true => Vec::new(),
            false => self.hear_the_agent(events).map_err(EngineError::file("hear", "the agent"))?,
        };
        self.ended |= messages.iter().any(|m| matches!(m, FromAgent::Exited(_) | FromAgent::Failed(_)));
        if !self.ended
            && messages.is_empty()
            && !hold_output
            && let Some(error) = self.died()
        {
            return Err(error);
        }
        Ok(messages)
    }

    fn tell(&mut self, message: ToAgent) -> Result<()> {
        // Before the app runs there is nobody to signal: the machine is switched off instead. Input waits.
        let booting = self.boot.is_some();
        let switch_off =
            matches!(message, ToAgent::Shutdown) || (booting && matches!(message, ToAgent::Signal(_)));
        match (&mut self.agent, &self.vm) {
            (Some(agent), _) if !booting => {
                agent.send(&message).map_err(EngineError::file("speak to", "the agent"))
            }
            (_, Some(vm)) if switch_off => {
                vm.request_stop();
                Ok(())
            }
            _ => {
                if matches!(message, ToAgent::Stdin(_) | ToAgent::CloseStdin) {
                    self.early.push(message);
                }
                Ok(())
            }
        }
    }

    fn init_pid(&self) -> Option<u32> {
        None
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if let Some(vm) = self.vm.take()
            && let Err(error) = power_off(vm, if self.ended { POWER_OFF } else { Duration::ZERO })
        {
            tracing::warn!(%error, "the guest did not power off in good order");
        }
        self.cgroup.remove()
    }
}

/// Lets the guest write out what it holds and power off by itself for some time.
fn power_off(mut vm: VmProcess, limit: Duration) -> std::result::Result<(), ProcessError> {
    match vm.wait_until(Instant::now() + limit)? {
        Some(_) => Ok(()),
        None => vm.stop().map(drop),
    }
}
