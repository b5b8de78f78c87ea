//! The rules of a fair comparison, and what a run did about each. A rule that the run did not follow says so.

use serde::{Deserialize, Serialize};

use super::Report;
use crate::format::number;
use crate::options::Ready;
use crate::subject::Runtime;

/// A rule and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule.
    pub rule: String,
    /// What this run did.
    pub done: String,
}

/// The rules, for this run.
#[must_use]
pub fn rules(report: &Report) -> Vec<Rule> {
    let rows = [
        ("Same image, same flags, same limits, same answer", same_image(report)),
        ("Interleaved, never one block after the other", interleaved(report)),
        ("Enough samples, every one kept", samples(report)),
        ("Median, interval, ratio; a threshold fixed beforehand", statistics(report)),
        ("The same subject twice must show no difference", control(report)),
        ("Warm and cold are different experiments", warmth()),
        ("Charge everything", charge(report)),
        ("Ready by a signal, or by polling at a stated period", readiness(report)),
        ("The command's own time is not hidden", command(report)),
        ("The harness measures itself", calibration(report)),
        (
            "A figure that was not measured is absent",
            "Empty cells and missing bars were not measured. None of them means zero.".to_owned(),
        ),
        (
            "Hosts without hardware assistance are named",
            format!(
                "{} Reports from different kinds of host are not compared.",
                report.environment.kvm.sentence()
            ),
        ),
    ];
    rows.into_iter().map(|(rule, done)| Rule { rule: rule.to_owned(), done }).collect()
}

fn same_image(report: &Report) -> String {
    let experiment = &report.experiment;
    let digest = experiment.digest.as_deref().unwrap_or("its digest was not reported");
    let memory =
        experiment.memory.as_deref().map_or("no memory limit".to_owned(), |m| format!("--memory {m}"));
    let cpus = experiment.cpus.map_or("no CPU limit".to_owned(), |c| format!("--cpus {c}"));
    let pin = match &experiment.pin {
        Some(cpus) => {
            format!(
                "confined to host CPUs {}",
                cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
            )
        }
        None => "free to use all host CPUs".to_owned(),
    };
    let crun = if report.compared().any(|m| m.subject.runtime == Runtime::Crun) {
        " crun ran on the same root file system, unpacked, without an overlay, a seccomp filter or a monitor, \
         which is to its advantage."
    } else {
        ""
    };
    format!(
        "One image for all ({digest}), {memory}, {cpus}, {pin}. The replies were compared byte by byte; \
         a difference would have ended the run.{crun}"
    )
}

fn interleaved(report: &Report) -> String {
    format!(
        "Rounds in random order, every second one the mirror image of the one before; seed {}.",
        report.experiment.seed
    )
}

fn samples(report: &Report) -> String {
    let counts: Vec<String> =
        report.subjects.iter().map(|m| format!("{} {}", m.samples.len(), m.subject.label)).collect();
    let outliers: usize = report.subjects.iter().filter_map(|m| m.start.as_ref()).map(|s| s.outliers).sum();
    format!(
        "{} starts, after {} of each that were not counted. {outliers} flagged as outliers, none dropped. \
         No 99th percentile under 100 samples.",
        counts.join(", "),
        report.experiment.warm_up
    )
}

fn statistics(report: &Report) -> String {
    format!(
        "95 % bootstrap intervals; a verdict needs the whole interval of the ratio beyond 5 % and a rank-sum test \
         below 0.05 after Holm's correction over {} comparisons.",
        report.comparisons.len()
    )
}

fn control(report: &Report) -> String {
    match (&report.control, report.control_passed()) {
        (Some(control), Some(passed)) => format!(
            "{}: ratio {} (95 % interval {} to {}).",
            if passed { "Passed" } else { "FAILED" },
            number(control.ratio),
            number(control.interval.low),
            number(control.interval.high)
        ),
        _ => "NOT DONE: there were too few samples for a control.".to_owned(),
    }
}

fn warmth() -> String {
    "This is the warm experiment: the image is stored and files are in the page cache. Every VM boots from scratch."
        .to_owned()
}

fn charge(report: &Report) -> String {
    let cpu = if report.subjects.iter().any(|m| m.cpu.is_some()) {
        "CPU time is that of the same processes; work the kernel does for them outside (softirq) is not in it."
    } else {
        "CPU time was not measured."
    };
    format!(
        "Memory is that of the command, the monitor or VMM and everything below them, each page divided by the \
         number of its users. {cpu}"
    )
}

fn readiness(report: &Report) -> String {
    match (&report.experiment.ready, report.experiment.resolution_ms) {
        (Ready::Output, _) => "A blocking read of the app's standard output.".to_owned(),
        (Ready::Http { .. }, Some(period)) => format!(
            "An HTTP request, attempted from the moment the app runs and again {} ms after each refusal, or 1 % \
             of the time since then where that is longer; that is the resolution of the start times. A start \
             counts when the whole correct reply is there.",
            number(period)
        ),
        (Ready::Http { .. }, None) => "An HTTP request; its period was not recorded.".to_owned(),
    }
}

fn command(report: &Report) -> String {
    let time = report.calibration.as_ref().and_then(|c| c.command_ms);
    let time = time
        .map_or(String::new(), |ms| format!(" A carve command that does nothing takes {} ms.", number(ms)));
    format!("Start times include the command; the waterfall shows its part.{time}")
}

fn calibration(report: &Report) -> String {
    let Some(calibration) = &report.calibration else { return "NOT DONE in this run.".to_owned() };
    let parts = [
        ("spawning a command that does nothing", calibration.spawn_ms),
        ("the same in a mount namespace without the unified cgroup", calibration.wrapped_spawn_ms),
        ("the HTTP probe on a server that answers at once", calibration.probe_ms),
        ("seeing an event in its file", calibration.event_ms),
    ];
    let parts: Vec<String> =
        parts.iter().filter_map(|(what, ms)| ms.map(|ms| format!("{what} {} ms", number(ms)))).collect();
    format!("Medians of {}: {}. Not taken off the figures.", calibration.n, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn every_rule_says_what_was_done() {
        let rules = rules(&example::report());
        assert!(rules.iter().all(|rule| !rule.done.is_empty()));
        assert!(rules.iter().any(|rule| rule.done.contains("seed 7")));
    }

    #[test]
    fn what_was_not_done_is_not_claimed() {
        let mut report = example::report();
        report.calibration = None;
        report.control = None;
        let text: String = rules(&report).into_iter().map(|rule| rule.done).collect();
        assert_eq!(text.matches("NOT DONE").count(), 2);
    }
}
