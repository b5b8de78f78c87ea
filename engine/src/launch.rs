//! Starting an instance: the client's half. The monitor's half is `monitor/`.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
};

use agent::protocol::{FromAgent, ToAgent, receive, send};

use crate::{
    engine::Engine,
    error::{EngineError, Result},
    files::{self, Lock},
    id,
    instance::Instance,
    spec::{Model, RunSpec},
};

/// The hidden verb of the binary that runs [`crate::monitor::run`].
pub(crate) const MONITOR_VERB: &str = "monitor";

/// Tries to find a free name when the user gave none.
const NAME_ATTEMPTS: usize = 20;

/// A client's hold on an instance that it launched.
#[derive(Debug)]
pub struct Attached {
    stream: UnixStream,
    name: String,
    monitor: Child,
}

impl Attached {
    /// The instance's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next message; `None` when the instance is gone and has cleaned up after itself.
    ///
    /// # Errors
    /// When the monitor speaks nonsense.
    pub fn receive(&mut self) -> std::io::Result<Option<FromAgent>> {
        match receive(&mut self.stream) {
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// Tells the instance something.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn send(&mut self, message: &ToAgent) -> std::io::Result<()> {
        send(&mut self.stream, message)
    }

    /// A second handle for another thread.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn sender(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Waits until the monitor has ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> std::io::Result<()> {
        self.monitor.wait().map(drop)
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

pub(crate) fn launch(engine: &Engine, spec: RunSpec) -> Result<Attached> {
    check(&spec)?;
    let digest = {
        let reference = spec
            .image
            .parse()
            .map_err(|e: image::ReferenceError| EngineError::Invalid(format!("{}: {e}", spec.image)))?;
        engine.images()?.resolve(&reference)?.manifest_digest.to_string()
    };
    let (instance, lock) = record(engine, spec, digest)?;
    spawn_monitor(engine, &instance, lock).inspect_err(|_| {
        // The record is this command's own; what went wrong is already on its way to the user.
        if let Err(error) = engine.destroy(&instance.id) {
            tracing::warn!(%error, instance = instance.id, "cannot remove what is left of the instance");
        }
    })
}

fn check(spec: &RunSpec) -> Result<()> {
    if let Some(name) = spec.name.as_deref().filter(|n| !id::is_valid_name(n)) {
        return Err(EngineError::Invalid(format!(
            "{name:?} is not a name for an instance: 2 to 63 of a-z A-Z 0-9 _ . - that begin with a letter or digit"
        )));
    }
    if spec.model == Model::Vm && spec.guest.is_none() {
        return Err(EngineError::Invalid(
            "a virtual machine needs a guest kernel and the agent's initramfs; make them with `cargo xtask setup`"
                .to_owned(),
        ));
    }
    if let Some(entry) = spec.env.iter().find(|e| e.is_empty() || e.starts_with('=')) {
        return Err(EngineError::Invalid(format!(
            "{entry:?} is not an environment variable; write NAME=value"
        )));
    }
    Ok(())
}

/// Records the instance; from here on its lock says whether it lives.
fn record(engine: &Engine, spec: RunSpec, digest: String) -> Result<(Instance, Lock)> {
    let _recording = Lock::acquire(&engine.root.instances_lock())?;
    let mut instance = Instance::new(&engine.root, id::random_id(), digest, spec);
    files::make_dir(&instance.dir)?;
    let lock = Lock::acquire(&Instance::lock(&instance.dir));
    let result = lock.and_then(|lock| {
        let mut attempts = NAME_ATTEMPTS;
        loop {
            match engine.database.insert(&instance) {
                Err(EngineError::NameTaken { .. }) if instance.spec.name.is_none() && attempts > 0 => {
                    attempts -= 1;
                    instance.name = id::random_name();
                }
                result => return result.map(|()| lock),
            }
        }
    });
    match result {
        Ok(lock) => Ok((instance, lock)),
        Err(error) => {
            files::remove_dir(&instance.dir)?;
            Err(error)
        }
    }
}

/// Starts this binary again as the monitor. Its standard input is the connection to this client, its standard
/// output the instance's lock, its standard error a log file.
fn spawn_monitor(engine: &Engine, instance: &Instance, lock: Lock) -> Result<Attached> {
    let failed =
        |e| EngineError::File { action: "start the monitor by", path: "/proc/self/exe".into(), source: e };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let log = Instance::monitor_log(&instance.dir);
    let log = File::create(&log).map_err(EngineError::file("create", log))?;
    let monitor = Command::new("/proc/self/exe")
        .arg("--root")
        .arg(engine.root.path())
        .arg(MONITOR_VERB)
        .arg(&instance.id)
        .arg0("carve")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(lock.into_file()))
        .stderr(Stdio::from(log))
        // Not in the terminal's foreground group: Ctrl-C is the client's to pass on.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok(Attached { stream: ours, name: instance.name.clone(), monitor })
}
