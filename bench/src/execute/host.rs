//! The real executor: starts instances by the binary's command line, learns about them by its JSON and the kernel's
//! files, and ends them as a user would.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capture::{argv, capture, capture_json};
use super::events::{EventFile, Waited};
use super::inspect::{Inspect, Stats};
use super::instance::{Instance, STOP_LIMIT};
use super::leftovers::{Census, interfaces};
use super::measure::{self, Target};
use super::output::{self, Output};
use super::poll::system;
use super::probe::{Probe, Probed};
use super::wrapper::wrapped;
use super::{ExecuteError, Executor, Observation, bundle};
use crate::calibrate::Calibration;
use crate::clock::{ms_between, now_ns};
use crate::environment::{self, Environment, Fact};
use crate::guest_kernel;
use crate::memory::{Memory, Role, tree};
use crate::options::{Options, Ready};
use crate::subject::{Runtime, Subject};

/// How long a command that only looks may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long unpacking an image for a peer may take.
const UNPACK_LIMIT: Duration = Duration::from_secs(300);
/// The pause between ready and the measuring of memory, for what start-up gives back.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs instances on this host.
pub(crate) struct Host<'a> {
    options: &'a Options,
    scratch: tempfile::TempDir,
    started: u32,
    facts: Vec<Fact>,
}

/// An instance on its way to ready.
struct Starting {
    name: String,
    instance: Instance,
    events: EventFile,
    address: SocketAddr,
    census: Census,
}

/// When it was ready, and by what.
struct Readied {
    at_ns: u64,
    reply: Vec<u8>,
    attempts: Option<u32>,
}

impl<'a> Host<'a> {
    /// An executor with a directory of its own for logs, events and bundles; it goes with it.
    pub(crate) fn new(options: &'a Options) -> std::io::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("carve-bench-").tempdir()?;
        Ok(Self { options, scratch, started: 0, facts: Vec::new() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `carve --root DIR` and then `words`.
    fn carve(&self, words: &[&str]) -> Vec<String> {
        let mut line = argv(&self.options.carve, []);
        line.extend(
            self.options.root.iter().flat_map(|root| ["--root".to_owned(), root.display().to_string()]),
        );
        line.extend(words.iter().map(|word| (*word).to_owned()));
        line
    }

    /// The command line that starts an instance.
    fn command_line(&self, runtime: Runtime, name: &str, port: &str, events: &str) -> Vec<String> {
        let line = match runtime {
            Runtime::Crun => {
                self.crun(&["run", "--bundle", &self.file("bundle").display().to_string(), name])
            }
            Runtime::Container | Runtime::Vm => self.carve_run(runtime, name, port, events),
        };
        if self.options.hides_unified_cgroup() { wrapped(line) } else { line }
    }

    fn carve_run(&self, runtime: Runtime, name: &str, port: &str, events: &str) -> Vec<String> {
        let options = self.options;
        let mut line = self.carve(&["run"]);
        let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
        if runtime == Runtime::Vm {
            add(&["--vm"]);
        }
        add(&["--rm", "--name", name]);
        if let Ready::Http { port: inside, .. } = options.ready {
            add(&["-p", &format!("127.0.0.1:{port}:{inside}")]);
        }
        if let Some(memory) = &options.memory {
            add(&["--memory", memory]);
        }
        if let Some(cpus) = options.cpus {
            add(&["--cpus", &cpus.to_string()]);
        }
        if !options.network {
            add(&["--network", "none"]);
        }
        add(&["--events", events, &options.image]);
        line.extend(options.command.iter().cloned());
        line
    }

    fn crun(&self, words: &[&str]) -> Vec<String> {
        let state = self.file("crun").display().to_string();
        let mut line = argv(Path::new("crun"), ["--cgroup-manager=cgroupfs", "--root", &state]);
        line.extend(words.iter().map(|word| (*word).to_owned()));
        line
    }

    fn prepare_bundle(&mut self) -> Result<(), ExecuteError> {
        let version = capture(&argv(Path::new("crun"), ["--version"]), LOOK_LIMIT)?;
        self.learn("crun", version.lines().next().unwrap_or_default());
        let rootfs = self.file("bundle").join("rootfs");
        let made = std::fs::create_dir_all(&rootfs);
        made.map_err(|source| ExecuteError::File { doing: "make", path: rootfs.clone(), source })?;
        let rootfs = rootfs.display().to_string();
        capture(&self.carve(&["image", "unpack", &self.options.image, &rootfs]), UNPACK_LIMIT)?;
        bundle::write(self.options, &self.file("bundle"))
    }

    fn learn(&mut self, name: &str, value: &str) {
        if !value.is_empty() && self.facts.iter().all(|fact| fact.name != name) {
            self.facts.push(Fact { name: name.to_owned(), value: value.to_owned() });
        }
    }

    fn start(&mut self, subject: &Subject) -> Result<Starting, ExecuteError> {
        self.started += 1;
        let name = format!("bench-{}-{}", std::process::id(), self.started);
        let events_path = self.file(&format!("{name}.events"));
        let events = EventFile::create(&events_path)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let port = address.port().to_string();
        let line = self.command_line(subject.runtime, &name, &port, &events_path.display().to_string());
        let census = Census { name: name.clone(), interfaces_before: interfaces(), ..Census::default() };
        let piped = self.options.ready == Ready::Output;
        let log = self.file(&format!("{name}.log"));
        let instance = Instance::spawn(&line, self.options.pin.as_deref(), &log, piped)?;
        Ok(Starting { name, instance, events, address, census })
    }

    fn await_ready(&self, starting: &mut Starting) -> Result<Readied, ExecuteError> {
        let limit = u64::try_from(self.options.ready_timeout.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = starting.instance.spawn_ns.saturating_add(limit);
        match &self.options.ready {
            Ready::Output => self.await_output(starting, until_ns),
            Ready::Http { path, .. } => self.await_reply(starting, path, until_ns),
        }
    }

    fn await_output(&self, starting: &mut Starting, until_ns: u64) -> Result<Readied, ExecuteError> {
        let Some(mut stdout) = starting.instance.take_stdout() else { return Err(self.ended(starting)) };
        match output::first_line(&mut stdout, until_ns)? {
            Output::Line { at_ns, line } => {
                output::drain(stdout);
                Ok(Readied { at_ns, reply: line, attempts: None })
            }
            Output::Ended => Err(self.ended(starting)),
            Output::TimedOut => Err(self.not_ready(starting)),
        }
    }

    fn await_reply(
        &self,
        starting: &mut Starting,
        path: &str,
        until_ns: u64,
    ) -> Result<Readied, ExecuteError> {
        match starting.events.wait_for("app.started", starting.instance.pidfd(), until_ns)? {
            Waited::Seen => {}
            Waited::Ended => return Err(self.ended(starting)),
            Waited::TimedOut => return Err(self.not_ready(starting)),
        }
        let probe = Probe { address: starting.address, path, period: self.options.probe_period };
        match probe.run(Some(starting.instance.pidfd()), until_ns)? {
            Probed::Ready { at_ns, body, attempts } => {
                Ok(Readied { at_ns, reply: body, attempts: Some(attempts) })
            }
            Probed::Ended => Err(self.ended(starting)),
            Probed::TimedOut => Err(self.not_ready(starting)),
        }
    }

    fn ended(&self, starting: &mut Starting) -> ExecuteError {
        // The output may end a little before the command does.
        let status = match starting.instance.wait(Duration::from_secs(2)) {
            Ok(Some(status)) => status.to_string(),
            Ok(None) | Err(_) => "its output ended".to_owned(),
        };
        ExecuteError::Ended { status, message: starting.instance.last_words() }
    }

    fn not_ready(&self, starting: &Starting) -> ExecuteError {
        ExecuteError::NotReady {
            ready: self.options.ready.clone(),
            limit: self.options.ready_timeout,
            last: starting.events.last().unwrap_or("nothing").to_owned(),
            message: starting.instance.last_words(),
        }
    }

    /// What the binary says of a running instance; `None` for a peer, or when the instance has already ended.
    fn inspect(&mut self, subject: &Subject, name: &str) -> Option<Inspect> {
        if !subject.runtime.is_ours() {
            return None;
        }
        let inspect: Inspect = capture_json(&self.carve(&["inspect", name]), LOOK_LIMIT).ok()?;
        if let Some(kernel) = inspect.guest.as_ref().and_then(|guest| guest.kernel.as_deref())
            && self.facts.iter().all(|fact| fact.name != "guest kernel")
        {
            let facts = guest_kernel::facts(kernel);
            self.facts.extend(facts);
        }
        Some(inspect)
    }

    /// Memory of an instance that stays; `None` when it ends meanwhile, as a short command does.
    fn measure(
        &self,
        subject: &Subject,
        starting: &mut Starting,
        inspect: Option<&Inspect>,
    ) -> Result<Option<Memory>, ExecuteError> {
        if starting.instance.wait(SETTLE)?.is_some() {
            return Ok(None);
        }
        let vm = subject.runtime == Runtime::Vm;
        let stats = || capture_json::<Stats>(&self.carve(&["stats", &starting.name]), LOOK_LIMIT).ok();
        let guest = if vm { stats().and_then(|stats| stats.guest) } else { None };
        let ours = subject.runtime.is_ours();
        let memory = measure::memory(Target {
            command: starting.instance.pid(),
            command_role: if ours { Role::Command } else { Role::Monitor },
            monitor: inspect.and_then(|inspect| inspect.pids.monitor),
            init: inspect.and_then(|inspect| inspect.pids.init),
            vm,
            cgroup: inspect.and_then(Inspect::memory_cgroup),
            guest,
        });
        // A figure of an instance that was about to end would be of half of it.
        let whole = starting.instance.wait(Duration::ZERO)?.is_none() && (!ours || inspect.is_some());
        Ok(memory.filter(|_| whole))
    }

    /// Removes what a peer's instance that did not get ready would leave; ours ends with its command.
    fn abandon(&self, subject: &Subject, starting: &Starting) {
        if subject.runtime == Runtime::Crun {
            // The reason it is abandoned is what the user must hear; a container that never was cannot be deleted.
            let _ = capture(&wrapped(self.crun(&["delete", "--force", &starting.name])), LOOK_LIMIT);
        }
    }

    /// Ends an instance; the time that took, or `None` when it had ended by itself.
    fn stop(&self, subject: &Subject, starting: &mut Starting) -> Result<Option<f64>, ExecuteError> {
        if starting.instance.wait(Duration::ZERO)?.is_some() {
            return Ok(None);
        }
        let asked_ns = now_ns();
        if subject.runtime == Runtime::Crun {
            let kill = wrapped(self.crun(&["kill", &starting.name, "KILL"]));
            // It may just have ended by itself; whether it did is seen next.
            let _ = capture(&kill, LOOK_LIMIT);
        } else {
            starting.instance.interrupt()?;
        }
        match starting.instance.wait(STOP_LIMIT)? {
            Some(_) => Ok(Some(ms_between(asked_ns, now_ns()))),
            None => Err(ExecuteError::WouldNotStop { limit: STOP_LIMIT }),
        }
    }
}

impl Executor for Host<'_> {
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn environment(&mut self) -> Environment {
        let mut environment = environment::read(Path::new("/"), self.options.root.as_deref());
        environment.doctor = capture_json(&self.carve(&["doctor", "--format", "json"]), LOOK_LIMIT).ok();
        environment.facts.extend(self.facts.iter().cloned());
        environment
    }

    fn load(&mut self) -> Option<String> {
        environment::load(Path::new("/"))
    }

    fn prepare(&mut self, subject: &Subject) -> Result<Vec<String>, ExecuteError> {
        let version = capture(&argv(&self.options.carve, ["--version"]), LOOK_LIMIT)?;
        self.learn("carve", version.trim());
        if subject.runtime == Runtime::Crun {
            self.prepare_bundle()?;
        }
        Ok(self.command_line(subject.runtime, "NAME", "PORT", "FILE"))
    }

    fn calibrate(&mut self) -> Calibration {
        super::calibrate::calibrate(
            &self.options.carve,
            self.options.hides_unified_cgroup(),
            self.scratch.path(),
        )
    }

    fn sample(&mut self, subject: &Subject) -> Result<Observation, ExecuteError> {
        let mut starting = self.start(subject)?;
        let readied = match self.await_ready(&mut starting) {
            Ok(readied) => readied,
            Err(error) => {
                self.abandon(subject, &starting);
                return Err(error);
            }
        };
        let inspect = self.inspect(subject, &starting.name);
        let memory = self.measure(subject, &mut starting, inspect.as_ref())?;
        let command = starting.instance.pid();
        starting.census.pids = tree::with_descendants(&[command], &tree::all());
        if subject.runtime == Runtime::Crun {
            starting.census.cgroups = bundle::cgroups();
        }
        if let Some(inspect) = &inspect {
            starting.census.pids.extend([inspect.pids.monitor, inspect.pids.init].into_iter().flatten());
            starting.census.cgroups = inspect.cgroup_directories();
        }
        let stop_ms = self.stop(subject, &mut starting)?;
        let left_behind = starting.census.left_behind();
        let events = starting.events.read()?.to_vec();
        for suffix in ["events", "log"] {
            // They go with the directory at the latest.
            let _ = std::fs::remove_file(self.file(&format!("{}.{suffix}", starting.name)));
        }
        Ok(Observation {
            spawn_ns: starting.instance.spawn_ns,
            ready_ns: readied.at_ns,
            reply: readied.reply,
            events,
            probe_attempts: readied.attempts,
            memory,
            size: inspect.as_ref().and_then(Inspect::size),
            digest: inspect.and_then(|inspect| inspect.image).and_then(|image| image.digest),
            stop_ms,
            left_behind,
        })
    }
}

/// A port of the loopback address that was free a moment ago.
fn free_port() -> Result<u16, ExecuteError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(system("find a free port"))?;
    Ok(listener.local_addr().map_err(system("find a free port"))?.port())
}

#[cfg(test)]
mod tests;
