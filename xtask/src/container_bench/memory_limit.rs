//! Whether a container starts that may have no more than 1 MiB: what of the runtime is charged to it has to fit too.

use anyhow::Result;

use super::runtime::{Bench, Runtime};
use crate::figures::Figure;

const TRIES: u32 = 5;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let figure = |runtime: Runtime| {
        let failed = (0..TRIES).filter(|_| bench.run_once(runtime, &bench.bundles.small).is_err()).count();
        let name = format!("of {TRIES} starts with a memory limit of 1 MiB, failed, {}", runtime.name());
        let figure = Figure::one(&name, "", Some(failed as f64));
        if runtime == Runtime::Carve { figure.at_most(0.0) } else { figure }
    };
    Ok(bench.runtimes.iter().copied().map(figure).collect())
}
