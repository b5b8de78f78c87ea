//! Figures from the literature, printed beside ours as what they are: another machine's.

use serde::{Deserialize, Serialize};

use super::Metric;

/// A figure that somebody else measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The metric of ours that it stands beside.
    pub metric: Metric,
    /// What was measured.
    pub what: String,
    /// The figure, in `unit`.
    pub value: f64,
    /// `ms` or `MiB`.
    pub unit: String,
    /// Where it was published, with the year.
    pub source: String,
}

/// The figures that belong beside a start comparison.
#[must_use]
pub fn for_start() -> Vec<Published> {
    let entry = |metric, what: &str, value, unit: &str, source: &str| Published {
        metric,
        what: what.to_owned(),
        value,
        unit: unit.to_owned(),
        source: source.to_owned(),
    };
    let unikraft = "Unikraft, EuroSys 2021, artifact data";
    let firecracker = "Firecracker, NSDI 2020, artifact data";
    vec![
        entry(Metric::StartTime, "Docker container", 66.0, "ms", unikraft),
        entry(Metric::StartTime, "Alpine Linux VM", 332.0, "ms", unikraft),
        entry(Metric::StartTime, "Firecracker, process start to exit", 161.0, "ms", firecracker),
        entry(Metric::Memory, "VMM overhead of Firecracker, guest RAM apart", 3.0, "MiB", firecracker),
        entry(Metric::Memory, "VMM overhead of Cloud Hypervisor, guest RAM apart", 13.0, "MiB", firecracker),
        entry(Metric::Memory, "VMM overhead of QEMU, guest RAM apart", 131.0, "MiB", firecracker),
    ]
}
