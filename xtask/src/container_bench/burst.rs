//! Ten `run` of busybox `true` at once, from the instant before the first command is executed to the end of the last.

use std::time::Instant;

use anyhow::Result;

use super::rounds::Samples;
use super::runtime::{Bench, Runtime, end, spawn};
use crate::figures::Figure;

const AT_ONCE: usize = 10;
/// The most that our median may be of a peer's.
const LIMITS: [(Runtime, f64); 1] = [(Runtime::Crun, 1.0)];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let what = format!("{AT_ONCE} at once");
    let samples = Samples::take(bench, &what, bench.samples, |runtime| {
        let ids: Vec<String> = (0..AT_ONCE).map(|_| bench.id()).collect();
        let took = burst(bench, runtime, &ids);
        if took.is_err() {
            ids.iter().for_each(|id| bench.delete(runtime, id));
        }
        took
    })?;
    Ok(samples.figures(&what, "ms", &LIMITS))
}

/// Milliseconds.
fn burst(bench: &Bench, runtime: Runtime, ids: &[String]) -> Result<f64> {
    let started = Instant::now();
    let mut children = Vec::new();
    for id in ids {
        let mut command = bench.run(runtime, &bench.bundles.ends, id);
        children.push((spawn(&mut command)?, command));
    }
    for (child, command) in children {
        end(child, &command)?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
