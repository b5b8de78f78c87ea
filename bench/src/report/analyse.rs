//! From samples to figures: summaries, comparisons with the reference, the control, and what the reader must be
//! warned of. Everything random in it comes from the experiment's seed.

use super::{Comparison, Measured, Metric, Report, Summary, fairness, phases, published};
use crate::environment::Kvm;
use crate::memory::parts;
use crate::statistics::bootstrap::{median_interval, ratio_interval};
use crate::statistics::quantile::{quantile, sorted};
use crate::statistics::verdict::verdict;
use crate::statistics::{holm, outlier, rank_test};
use crate::subject::Runtime;

/// Samples under which an interval is called wide.
const ENOUGH: usize = 30;
/// Samples under which there is no 99th percentile.
const ENOUGH_FOR_P99: usize = 100;

/// Fills in everything that is derived from the samples, replacing what was there.
pub fn analyse(report: &mut Report) {
    let seed = report.experiment.seed;
    for measured in &mut report.subjects {
        summarise(measured, seed);
    }
    compare(report);
    report.warnings = warnings(report);
    report.fairness = fairness::rules(report);
    report.published = published::for_start();
}

fn summarise(measured: &mut Measured, seed: u64) {
    let starts = measured.starts_ms();
    for (sample, outlier) in measured.samples.iter_mut().zip(outlier::flags(&starts)) {
        sample.outlier = outlier;
    }
    measured.start = summary(&starts, seed);
    measured.phases = phases::of(measured);
    measured.memory = summary(&measured.memory_bytes(), seed);
    let memories: Vec<_> = measured.samples.iter().filter_map(|sample| sample.memory.as_ref()).collect();
    measured.memory_parts = parts::medians(&memories);
    let cpu_ms: Vec<f64> =
        memories.iter().filter_map(|memory| memory.cpu_ns).map(|ns| ns as f64 / 1e6).collect();
    measured.cpu = summary(&cpu_ms, seed);
}

/// A series in a few figures; `None` for none.
#[must_use]
pub fn summary(values: &[f64], seed: u64) -> Option<Summary> {
    let ordered = sorted(values);
    Some(Summary {
        n: values.len(),
        median: quantile(values, 500)?,
        interval: median_interval(values, seed),
        min: *ordered.first()?,
        max: *ordered.last()?,
        p99: (values.len() >= ENOUGH_FOR_P99).then(|| quantile(values, 990)).flatten(),
        outliers: outlier::flags(values).iter().filter(|flag| **flag).count(),
    })
}

/// The subject that others are compared with: the container where there is one.
fn reference(report: &Report) -> Option<&Measured> {
    let with_samples = || report.compared().filter(|measured| !measured.samples.is_empty());
    with_samples().find(|m| m.subject.runtime == Runtime::Container).or_else(|| with_samples().next())
}

fn compare(report: &mut Report) {
    let seed = report.experiment.seed;
    let Some(reference) = reference(report) else { return };
    let mut comparisons: Vec<Comparison> = report
        .compared()
        .filter(|measured| measured.subject.id != reference.subject.id)
        .flat_map(|measured| {
            [Metric::StartTime, Metric::Memory].map(|metric| comparison(metric, measured, reference, seed))
        })
        .flatten()
        .collect();
    let p_values: Vec<f64> = comparisons.iter().map(|comparison| comparison.p).collect();
    for (comparison, p) in comparisons.iter_mut().zip(holm::adjusted(&p_values)) {
        comparison.p_corrected = p;
        comparison.verdict = verdict(comparison.interval, p);
    }
    let control = report.subjects.iter().find(|measured| measured.subject.control).and_then(|twin| {
        let of_same = |m: &&Measured| m.subject.runtime == twin.subject.runtime;
        comparison(Metric::StartTime, twin, report.compared().find(of_same)?, seed)
    });
    report.comparisons = comparisons;
    report.control = control;
}

fn comparison(metric: Metric, measured: &Measured, reference: &Measured, seed: u64) -> Option<Comparison> {
    let values = |measured: &Measured| match metric {
        Metric::StartTime => measured.starts_ms(),
        Metric::Memory => measured.memory_bytes(),
    };
    let (a, b) = (values(measured), values(reference));
    let interval = ratio_interval(&a, &b, seed)?;
    let p = rank_test::p_value(&a, &b, seed)?;
    Some(Comparison {
        metric,
        subject: measured.subject.id.clone(),
        reference: reference.subject.id.clone(),
        ratio: quantile(&a, 500)? / quantile(&b, 500)?,
        interval,
        p,
        p_corrected: p,
        verdict: verdict(interval, p),
    })
}

fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if report.control_passed() == Some(false) {
        warnings.push(
            "The control failed: the same subject measured twice came out different. Something on this host changed \
             during the run; do not rely on the other verdicts."
                .to_owned(),
        );
    }
    if report.environment.kvm == Kvm::NoHardware {
        warnings.push(report.environment.kvm.sentence().to_owned());
    }
    if !report.complete {
        warnings.push("The run did not go to its end; these are the samples it had taken.".to_owned());
    }
    for absent in &report.absent {
        warnings.push(format!("{} is not in this report: {}", absent.subject, absent.reason));
    }
    for measured in &report.subjects {
        warnings.extend(about_subject(measured, report.experiment.samples));
    }
    warnings
}

fn about_subject(measured: &Measured, wanted: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let (label, n) = (&measured.subject.label, measured.samples.len());
    if n < wanted {
        warnings.push(format!("{label}: {n} of {wanted} samples were taken in the time given."));
    }
    if n < ENOUGH {
        warnings
            .push(format!("{label}: with {n} samples, fewer than {ENOUGH}, its interval is wide and rough."));
    }
    if let Some(last) = measured.failures.last() {
        warnings.push(format!("{label}: {} starts failed, the last with: {last}", measured.failures.len()));
    }
    let mut left: Vec<&String> = measured.samples.iter().flat_map(|sample| &sample.left_behind).collect();
    left.dedup();
    if let Some(first) = left.first() {
        warnings.push(format!(
            "{label}: something was left behind after its end: {first} ({} in all).",
            left.len()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::statistics::verdict::Verdict;

    #[test]
    fn compares_each_subject_with_the_container() {
        let report = example::report();
        let start =
            report.comparisons.iter().find(|c| c.metric == Metric::StartTime).expect("a start comparison");
        assert_eq!((start.subject.as_str(), start.reference.as_str()), ("vm", "container"));
        assert_eq!(start.verdict, Verdict::More);
        assert!(start.interval.contains(start.ratio) && start.p_corrected >= start.p);
    }

    #[test]
    fn the_control_is_no_comparison_of_its_own() {
        let report = example::report();
        assert_eq!(report.control_passed(), Some(true));
        assert!(report.comparisons.iter().all(|c| c.subject != "container-again"));
    }

    #[test]
    fn a_failed_control_is_the_first_thing_said() {
        let mut report = example::report();
        for sample in &mut report.subjects.last_mut().expect("the control").samples {
            sample.start_ms *= 1.5;
        }
        analyse(&mut report);
        assert_eq!(report.control_passed(), Some(false));
        assert!(report.warnings[0].starts_with("The control failed"), "{:?}", report.warnings);
    }

    #[test]
    fn few_samples_are_said_to_be_few() {
        let mut report = example::report();
        report.subjects[1].samples.truncate(4);
        analyse(&mut report);
        assert!(report.warnings.iter().any(|w| w.contains("VM: 4 of 30 samples")), "{:?}", report.warnings);
        assert!(report.warnings.iter().any(|w| w.contains("interval is wide")), "{:?}", report.warnings);
    }

    #[test]
    fn a_subject_without_samples_is_compared_with_nothing() {
        let mut report = example::report();
        report.subjects[1].samples.clear();
        analyse(&mut report);
        assert!(report.comparisons.is_empty());
        assert_eq!(report.subjects[1].start, None);
    }

    #[test]
    fn a_99th_percentile_needs_a_hundred_samples() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(summary(&values[..99], 1).and_then(|s| s.p99), None);
        assert!(summary(&values, 1).and_then(|s| s.p99).is_some());
    }
}
