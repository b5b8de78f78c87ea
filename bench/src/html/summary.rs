//! The figures as a table, with the verdicts and the control.

use maud::{Markup, html};

use super::plain_label;
use crate::format::{bytes, duration, number};
use crate::report::{Comparison, Measured, Metric, Report, Summary};
use crate::table::interval;

/// The section.
pub(super) fn section(report: &Report) -> Markup {
    let with_p99 = report.subjects.iter().any(|m| m.start.as_ref().is_some_and(|s| s.p99.is_some()));
    html! {
        h2 { "The figures" }
        div.scroll { table {
            thead { tr {
                th { "" } th.n { "starts" } th.n { "median" } th.n { "95 % interval" } th.n { "least – most" }
                @if with_p99 { th.n { "99th percentile" } }
                th.n { "memory" } th.n { "CPU time" } th.n { "to stop" }
            } }
            tbody { @for measured in &report.subjects { (row(measured, with_p99)) } }
        } }
        p.small.soft {
            "Memory is what the host holds for one instance, each page divided by the number of its users. CPU time is \
             that of the instance's processes until shortly after ready. A′ is the control: the same thing measured \
             twice."
        }
        (comparisons(report))
        (control(report))
    }
}

fn row(measured: &Measured, with_p99: bool) -> Markup {
    let start = measured.start.as_ref();
    let stops: Vec<f64> = measured.samples.iter().filter_map(|sample| sample.stop_ms).collect();
    html! {
        tr {
            th { (measured.subject.label) }
            td.n { (measured.samples.len()) }
            td.n { (cell(start.map(|s| duration(s.median)))) }
            td.n { (cell(start.map(|s| interval(s, duration)))) }
            td.n { (cell(start.map(|s| format!("{} – {}", duration(s.min), duration(s.max))))) }
            @if with_p99 { td.n { (cell(start.and_then(|s| s.p99).map(duration))) } }
            td.n { (cell(measured.memory.as_ref().map(|m: &Summary| bytes(m.median)))) }
            td.n { (cell(measured.cpu.as_ref().map(|cpu| duration(cpu.median)))) }
            td.n { (cell(crate::statistics::quantile::median(&stops).map(duration))) }
        }
    }
}

/// A figure, or an empty cell for one that was not measured.
fn cell(value: Option<String>) -> String {
    value.unwrap_or_default()
}

fn comparisons(report: &Report) -> Markup {
    if report.comparisons.is_empty() {
        return html! { p { "There were too few samples for a comparison." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th { "compared" } th { "" } th.n { "ratio of medians" } th.n { "95 % interval" }
                th.n { "p, corrected" } th { "verdict" }
            } }
            tbody { @for comparison in &report.comparisons { (comparison_row(report, comparison)) } }
        } }
    }
}

fn comparison_row(report: &Report, comparison: &Comparison) -> Markup {
    let name = |id: &str| report.measured(id).map_or_else(|| id.to_owned(), |m| plain_label(m).to_owned());
    let (what, verdict) = match comparison.metric {
        Metric::StartTime => ("start time", comparison.verdict.of_time()),
        Metric::Memory => ("memory", comparison.verdict.of_amount()),
    };
    html! {
        tr {
            th { (what) }
            td { (name(&comparison.subject)) " ÷ " (name(&comparison.reference)) }
            td.n { (number(comparison.ratio)) }
            td.n { (number(comparison.interval.low)) " – " (number(comparison.interval.high)) }
            td.n { (p_value(comparison.p_corrected)) }
            td { (verdict) }
        }
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn control(report: &Report) -> Markup {
    let Some(control) = &report.control else { return html! {} };
    let interval = format!(
        "ratio {}, 95 % interval {} – {}",
        number(control.ratio),
        number(control.interval.low),
        number(control.interval.high)
    );
    html! {
        p {
            @if report.control_passed() == Some(true) {
                "The control passed: the same subject measured twice shows no difference (" (interval) ")."
            } @else {
                strong { "The control failed" }
                ": the same subject measured twice came out different (" (interval) "). Do not rely on the verdicts."
            }
        }
    }
}
