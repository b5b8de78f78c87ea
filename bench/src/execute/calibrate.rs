//! Measures the harness itself: spawning, probing, watching for events.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::ExecuteError;
use super::events::EventFile;
use super::instance::Instance;
use super::poll::system;
use super::probe::{Probe, Probed};
use super::wrapper::wrapped;
use crate::calibrate::Calibration;
use crate::clock::{ms_between, now_ns};
use crate::statistics::quantile::median;

/// How often each is measured.
const ROUNDS: usize = 20;
/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Measures what a run with the binary `carve` has the harness do; files go to `scratch`.
pub(super) fn calibrate(carve: &Path, wrap: bool, scratch: &Path) -> Calibration {
    let log = scratch.join("calibrate.log");
    let words = |program: &str| vec![program.to_owned()];
    let version = vec![carve.display().to_string(), "--version".to_owned()];
    Calibration {
        n: ROUNDS,
        spawn_ms: rounds(|| spawn_to_exit(&words("true"), &log)),
        wrapped_spawn_ms: wrap.then(|| rounds(|| spawn_to_exit(&wrapped(words("true")), &log))).flatten(),
        probe_ms: rounds(probe_own_server),
        event_ms: rounds(|| see_an_event(&scratch.join("calibrate.events"))),
        command_ms: rounds(|| spawn_to_exit(&version, &log)),
    }
}

/// The median; `None` when it cannot be done here.
fn rounds(mut one: impl FnMut() -> Result<f64, ExecuteError>) -> Option<f64> {
    let times: Result<Vec<f64>, ExecuteError> = (0..ROUNDS).map(|_| one()).collect();
    times.ok().and_then(|times| median(&times))
}

fn spawn_to_exit(argv: &[String], log: &Path) -> Result<f64, ExecuteError> {
    let mut instance = Instance::spawn(argv, None, log, false)?;
    let status = instance.wait(LIMIT)?;
    let ended_ns = now_ns();
    if status.is_some_and(|status| status.success()) {
        Ok(ms_between(instance.spawn_ns, ended_ns))
    } else {
        Err(ExecuteError::Slow { command: argv.join(" "), limit: LIMIT })
    }
}

fn probe_own_server() -> Result<f64, ExecuteError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(system("listen for the probe"))?;
    let address = listener.local_addr().map_err(system("listen for the probe"))?;
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let read = stream.read(&mut [0; 512])?;
        stream.write_all(if read > 0 { b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" } else { b"" })
    });
    let begun_ns = now_ns();
    let probe = Probe { address, path: "/", period: Duration::from_millis(1) };
    let probed = probe.run(None, begun_ns + 10_000_000_000)?;
    // Its result is the reply, which the probe has or has not.
    let _ = server.join();
    match probed {
        Probed::Ready { at_ns, .. } => Ok(ms_between(begun_ns, at_ns)),
        Probed::Ended | Probed::TimedOut => Err(ExecuteError::Slow {
            command: "the probe of the harness's own server".to_owned(),
            limit: LIMIT,
        }),
    }
}

fn see_an_event(path: &Path) -> Result<f64, ExecuteError> {
    let failed = |source| ExecuteError::File { doing: "write", path: path.to_owned(), source };
    let mut events = EventFile::create(path)?;
    let mut file = std::fs::File::options().append(true).open(path).map_err(failed)?;
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1));
        let written_ns = now_ns();
        writeln!(file, "{{\"event\":\"x\",\"ns\":{written_ns}}}")
    });
    // The harness's own descriptor stands in for a command that does not end.
    let (never, _other_end) = std::os::unix::net::UnixStream::pair().map_err(system("make a socket pair"))?;
    events.wait_for("x", never.as_fd(), now_ns() + 10_000_000_000)?;
    let seen_ns = now_ns();
    let _ = writer.join();
    let written_ns = events.read()?.first().map_or(seen_ns, |event| event.ns);
    Ok(ms_between(written_ns, seen_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_what_is_there_and_leaves_out_the_rest() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let calibration = calibrate(Path::new("/no/such/carve"), false, dir.path());
        for (what, ms) in [
            ("spawn", calibration.spawn_ms),
            ("probe", calibration.probe_ms),
            ("event", calibration.event_ms),
        ] {
            assert!(ms.is_some_and(|ms| ms > 0.0 && ms < 5000.0), "{what}: {ms:?}");
        }
        assert_eq!((calibration.command_ms, calibration.wrapped_spawn_ms), (None, None));
    }
}
