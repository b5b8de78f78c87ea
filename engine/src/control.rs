//! Speaking with the monitor of an instance, over the control socket in its directory.
//!
//! The messages are those of [`agent::protocol`]: what the engine would tell an agent, any client may tell a
//! monitor, and it answers as an agent would. A client that only wants the end to come waits for the socket to close.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use agent::protocol::{FromAgent, GuestStats, ToAgent, receive, send};

use crate::{
    error::{EngineError, Result},
    instance::Instance,
};

/// How long a monitor may take for what does not depend on the app.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an app may take to die from SIGKILL, in either model.
const FORCED: Duration = Duration::from_secs(30);
const SIGTERM: i32 = 15;

/// A socket's path can be long where a socket address cannot: name it by its directory's descriptor.
pub(crate) fn short_path(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// Connects to an instance's monitor.
fn connect(instance: &Instance) -> Result<UnixStream> {
    let path = Instance::control_socket(&instance.dir);
    let dir = File::open(&instance.dir).map_err(EngineError::file("open", &instance.dir))?;
    let deadline = Instant::now() + ANSWER;
    loop {
        // A monitor that has just been started makes its socket within milliseconds.
        match UnixStream::connect(short_path(&dir, "control.sock")) {
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && Instant::now() < deadline
                    && dir_exists(instance) =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result.map_err(EngineError::file("connect to", path)),
        }
    }
}

fn dir_exists(instance: &Instance) -> bool {
    instance.dir.exists()
}

/// Ends an instance: SIGTERM, then after the grace period, in seconds, by force. Returns when it has ended.
pub(crate) fn stop(instance: &Instance, grace_s: u32) -> Result<()> {
    let mut monitor = match connect(instance) {
        // Ended by itself meanwhile.
        Err(EngineError::File { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            return Ok(());
        }
        other => other?,
    };
    if grace_s > 0 {
        tell(instance, &mut monitor, &ToAgent::Signal(SIGTERM))?;
        if ended(&mut monitor, Duration::from_secs(grace_s.into())) {
            return Ok(());
        }
    }
    tell(instance, &mut monitor, &ToAgent::Shutdown)?;
    if ended(&mut monitor, FORCED) {
        return Ok(());
    }
    Err(EngineError::State {
        name: instance.name.clone(),
        state: "still running".to_owned(),
        hint: "its monitor does not end it; look at monitor.log in its directory",
    })
}

fn tell(instance: &Instance, monitor: &mut UnixStream, message: &ToAgent) -> Result<()> {
    match send(monitor, message) {
        // It ended before it could be told to.
        Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        result => result.map_err(EngineError::file("speak to the monitor of", &instance.name)),
    }
}

/// Waits until the monitor closes the connection, which it does last.
fn ended(monitor: &mut UnixStream, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || monitor.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match receive::<FromAgent>(monitor) {
            Ok(Some(_)) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return false;
            }
            Ok(None) | Err(_) => return true,
        }
    }
}

/// The guest's own view of its memory; `None` for a container.
///
/// # Errors
/// When the instance does not run or does not answer within ten seconds.
pub fn stats(instance: &Instance) -> Result<Option<GuestStats>> {
    if instance.spec.model == crate::Model::Container {
        return Ok(None);
    }
    let mut monitor = connect(instance)?;
    tell(instance, &mut monitor, &ToAgent::Stats)?;
    monitor
        .set_read_timeout(Some(ANSWER))
        .map_err(EngineError::file("set up the connection to", &instance.name))?;
    loop {
        match receive(&mut monitor) {
            Ok(Some(FromAgent::Stats(stats))) => return Ok(Some(stats)),
            Ok(Some(_)) => {}
            Ok(None) => return Err(EngineError::MonitorDied(instance.name.clone())),
            Err(e) => return Err(EngineError::file("hear from the monitor of", &instance.name)(e)),
        }
    }
}
