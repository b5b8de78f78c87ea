//! Where a start goes: the milestones of all samples of a subject, as phases of its median start.
//!
//! Each edge is the median time at which a milestone was reached, so the phases add up to the median start time
//! exactly. A milestone that a runtime reports and this crate does not know is a phase like any other.

use serde::{Deserialize, Serialize};

use super::{Measured, Sample};
use crate::statistics::quantile::median;

/// The name of the last milestone, which the harness itself sees.
pub const READY: &str = "ready";

/// The time between two milestones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The milestone it ends at.
    pub until: String,
    /// What happens in it, for people.
    pub what: String,
    /// Its part of the system, which gives it its colour.
    pub part: PhasePart,
    /// Its beginning, in milliseconds after spawn.
    pub from_ms: f64,
    /// Its end, in milliseconds after spawn.
    pub to_ms: f64,
}

impl Phase {
    /// Its duration in milliseconds.
    #[must_use]
    pub fn ms(&self) -> f64 {
        self.to_ms - self.from_ms
    }
}

/// The part of the system that a phase is spent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhasePart {
    /// The command and the monitor: parsing, state, launching.
    Engine,
    /// Files, mounts and disks.
    Files,
    /// Network.
    Network,
    /// The isolation itself: namespaces and cgroups, or the virtual machine.
    Isolation,
    /// The guest's kernel and its agent.
    Guest,
    /// The app, up to its first correct reply.
    App,
    /// A milestone that is not known here.
    Other,
}

impl PhasePart {
    /// Every part, in the order of a legend.
    pub const ALL: [Self; 7] =
        [Self::Engine, Self::Files, Self::Network, Self::Isolation, Self::Guest, Self::App, Self::Other];

    /// Its name for a legend.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "command and monitor",
            Self::Files => "files and disks",
            Self::Network => "network",
            Self::Isolation => "isolation: namespaces or machine",
            Self::Guest => "guest kernel and agent",
            Self::App => "app",
            Self::Other => "other",
        }
    }

    /// Its name in a style sheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Engine => "c-engine",
            Self::Files => "c-files",
            Self::Network => "c-network",
            Self::Isolation => "c-isolation",
            Self::Guest => "c-guest",
            Self::App => "c-app",
            Self::Other => "c-other",
        }
    }
}

/// What the time before a milestone is spent on.
fn describe(event: &str) -> (&'static str, PhasePart) {
    match event {
        "cli.start" => ("execute the command", PhasePart::Engine),
        "image.resolved" => ("find the image", PhasePart::Engine),
        "monitor.start" => ("launch the monitor", PhasePart::Engine),
        "network.ready" => ("set up the network", PhasePart::Network),
        "rootfs.ready" => ("prepare the root file system", PhasePart::Files),
        "cgroup.ready" => ("make the cgroup", PhasePart::Isolation),
        "init.created" => ("create namespaces and first process", PhasePart::Isolation),
        "vmm.kvm_opened" => ("open KVM", PhasePart::Isolation),
        "vmm.memory_mapped" => ("map guest memory", PhasePart::Isolation),
        "vmm.kernel_loaded" => ("load the guest kernel", PhasePart::Isolation),
        "vmm.first_run" => ("create devices and vCPUs", PhasePart::Isolation),
        "guest.agent_ready" => ("boot the guest kernel", PhasePart::Guest),
        "app.started" => ("hand over to the app", PhasePart::App),
        READY => ("app, to its first correct reply", PhasePart::App),
        _ => ("", PhasePart::Other),
    }
}

/// The phases of a subject; empty without samples.
#[must_use]
pub fn of(measured: &Measured) -> Vec<Phase> {
    let samples = &measured.samples;
    let Some(ready_ms) = median(&measured.starts_ms()) else { return Vec::new() };
    let mut edges: Vec<(String, f64)> = Vec::new();
    for name in names(samples) {
        let times: Vec<f64> = samples.iter().filter_map(|sample| first_at(sample, &name)).collect();
        // A milestone that most samples did not pass has no place in the median start.
        if times.len() * 2 > samples.len() {
            edges.extend(median(&times).map(|at| (name, at.clamp(0.0, ready_ms))));
        }
    }
    edges.sort_by(|a, b| a.1.total_cmp(&b.1));
    edges.push((READY.to_owned(), ready_ms));
    let mut from_ms = 0.0;
    edges
        .into_iter()
        .map(|(until, to_ms)| {
            let (what, part) = describe(&until);
            let what = if what.is_empty() { format!("until {until}") } else { what.to_owned() };
            let phase = Phase { what, part, from_ms, to_ms, until };
            from_ms = to_ms;
            phase
        })
        .collect()
}

/// The milestones' names in the order first seen.
fn names(samples: &[Sample]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for milestone in samples.iter().flat_map(|sample| &sample.milestones) {
        if !names.contains(&milestone.event) {
            names.push(milestone.event.clone());
        }
    }
    names
}

fn first_at(sample: &Sample, event: &str) -> Option<f64> {
    sample.milestones.iter().find(|milestone| milestone.event == event).map(|milestone| milestone.at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn phases_add_up_to_the_median_start() {
        let report = example::report();
        for measured in &report.subjects {
            let total: f64 = measured.phases.iter().map(Phase::ms).sum();
            let start = measured.start.as_ref().expect("the example has starts").median;
            assert!((total - start).abs() < 1e-9, "{}: {total} is not {start}", measured.subject.id);
            assert!(measured.phases.iter().all(|phase| phase.ms() >= 0.0));
        }
    }

    #[test]
    fn a_milestone_nobody_knows_is_shown_under_its_name() {
        let mut measured = example::report().subjects[0].clone();
        for sample in &mut measured.samples {
            sample.milestones.push(super::super::Milestone { event: "disk.warm".into(), at_ms: 0.5 });
        }
        let phases = of(&measured);
        let phase = phases.iter().find(|phase| phase.until == "disk.warm").expect("it is a phase");
        assert_eq!((phase.what.as_str(), phase.part), ("until disk.warm", PhasePart::Other));
    }

    #[test]
    fn a_milestone_of_few_samples_is_left_out() {
        let mut measured = example::report().subjects[0].clone();
        measured.samples[0].milestones.push(super::super::Milestone { event: "rare".into(), at_ms: 0.5 });
        assert!(of(&measured).iter().all(|phase| phase.until != "rare"));
    }
}
