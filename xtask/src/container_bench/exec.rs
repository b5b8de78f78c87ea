//! `exec` of busybox `true` in a container that runs, from the instant before the command is executed to its end.

use anyhow::Result;

use super::rounds::Samples;
use super::runtime::{Bench, Runtime, end, spawn, time};
use crate::figures::Figure;

/// The most that our median may be of a peer's.
const LIMITS: [(Runtime, f64); 1] = [(Runtime::Crun, 0.9)];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let what = "exec to exit";
    let containers: Vec<(Runtime, String)> =
        bench.runtimes.iter().map(|runtime| (*runtime, bench.id())).collect();
    let id_of = |wanted: Runtime| {
        let container = containers.iter().find(|(runtime, _)| *runtime == wanted);
        container.map_or("", |(_, id)| id)
    };
    let samples = start(bench, &containers).and_then(|()| {
        Samples::take(bench, what, bench.samples, |runtime| {
            let mut command = bench.command(runtime, "exec");
            Ok(time(command.args([id_of(runtime), "true"]))?.as_secs_f64() * 1e3)
        })
    });
    for (runtime, id) in &containers {
        bench.delete(*runtime, id);
    }
    Ok(samples?.figures(what, "ms", &LIMITS))
}

/// Has a container of each runtime run.
fn start(bench: &Bench, containers: &[(Runtime, String)]) -> Result<()> {
    for (runtime, id) in containers {
        let mut command = bench.command(*runtime, "run");
        // The container keeps it, so that no end of it could be waited for.
        command.stderr(std::process::Stdio::inherit());
        command.args(["--detach", "--bundle"]).arg(&bench.bundles.stays).arg(id);
        end(spawn(&mut command)?, &command)?;
    }
    Ok(())
}
