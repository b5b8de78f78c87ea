//! The most memory that the process of `run` has had when the container's program runs: `VmHWM` in `/proc/PID/status`, which
//! counts from its execution on. (What wait4(2) tells counts from the fork on, when it was still as large as its parent.)

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::rounds::Samples;
use super::runtime::{Bench, Runtime, spawn};
use crate::figures::Figure;

/// The most that our median may be of a peer's.
const LIMITS: [(Runtime, f64); 1] = [(Runtime::Crun, 1.0)];
/// More than so many say no more.
const ROUNDS: u32 = 10;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let what = "peak resident memory of run";
    let samples = Samples::take(bench, what, bench.samples.min(ROUNDS), |runtime| {
        let id = bench.id();
        let peak = peak(bench, runtime, &id);
        bench.delete(runtime, &id);
        peak
    })?;
    Ok(samples.figures(what, "MiB", &LIMITS))
}

/// MiB.
fn peak(bench: &Bench, runtime: Runtime, id: &str) -> Result<f64> {
    let mut command = bench.run(runtime, &bench.bundles.stays, id);
    let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::inherit()))?;
    let mut said = String::new();
    let output = child.stdout.take().context("it was asked for")?;
    BufReader::new(output).read_line(&mut said).context("cannot read the container's output")?;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    bench.delete(runtime, id);
    child.wait().context("cannot wait for the runtime")?;
    ensure!(said == "runs\n", "the container said {said:?}");
    kib(&status.context("cannot read the runtime's status")?)
        .map(|kib| kib / 1024.0)
        .context("its status has no VmHWM")
}

fn kib(status: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found() {
        assert_eq!(kib("Name:\tcrun\nVmHWM:\t    4416 kB\nVmRSS:\t    4000 kB\n"), Some(4416.0));
        assert_eq!(kib("Name:\tcrun\nVmRSS:\t    4000 kB\n"), None);
    }
}
