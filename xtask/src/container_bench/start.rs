//! `run` of busybox `true`, from the instant before the command is executed to its end.

use anyhow::Result;

use super::rounds::Samples;
use super::runtime::{Bench, Runtime};
use crate::figures::Figure;

/// The most that our median may be of a peer's.
const LIMITS: [(Runtime, f64); 2] = [(Runtime::Crun, 0.9), (Runtime::Runc, 0.5)];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let what = "start to exit";
    let samples = Samples::take(bench, what, bench.samples, |runtime| {
        Ok(bench.run_once(runtime, &bench.bundles.ends)?.as_secs_f64() * 1e3)
    })?;
    Ok(samples.figures(what, "ms", &LIMITS))
}
