//! Where the time of a start goes, phase by phase, for each subject on a scale of its own.

use maud::{Markup, html};

use super::scale::{Scale, Unit};
use super::start::percent;
use super::{WIDTH, legend, one_of, plain_label, px, rows, sentence_case};
use crate::format::duration;
use crate::report::phases::{Phase, PhasePart};
use crate::report::{Measured, Report};

/// Where the phases' names end and their bars begin.
const LEFT: f64 = 250.0;
/// Where the bars end.
const RIGHT: f64 = 560.0;
/// Height of a phase's row.
const ROW: f64 = 23.0;
/// Top of the first phase's row, below the stacked bar.
const FIRST: f64 = 48.0;

/// The section.
pub(super) fn section(report: &Report) -> Markup {
    let shown: Vec<&Measured> = report.compared().filter(|measured| !measured.phases.is_empty()).collect();
    if shown.is_empty() {
        return html! {};
    }
    let used = |part: PhasePart| shown.iter().flat_map(|m| &m.phases).any(|phase| phase.part == part);
    let entries: Vec<(&str, &str)> = PhasePart::ALL
        .into_iter()
        .filter(|part| used(*part))
        .map(|part| (part.class(), part.name()))
        .collect();
    html! {
        h2 { "Where the time goes" }
        p {
            "The milestones of a start, each at the median time it was reached. The bar on top is the whole start; \
             below it, each phase in its place. "
            em { "Every picture has its own scale." }
        }
        (legend(&entries))
        @for measured in shown { (figure(measured)) }
    }
}

fn figure(measured: &Measured) -> Markup {
    let phases = &measured.phases;
    let total_ms = phases.last().map_or(0.0, |phase| phase.to_ms);
    let scale = Scale::linear(total_ms, LEFT, RIGHT);
    let bottom = FIRST + ROW * rows(phases.len());
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img"
                aria-label=(format!("phases of the start of {}", one_of(measured))) {
                (scale.axis(FIRST - 6.0, bottom, Unit::Time))
                text.strong x="0" y="27" { (sentence_case(plain_label(measured))) }
                text.strong x=(px(RIGHT + 10.0)) y="27" { (duration(total_ms)) }
                @for phase in phases { (block(phase, &scale, 10.0, 26.0)) }
                @for (i, phase) in phases.iter().enumerate() {
                    (row(phase, &scale, FIRST + ROW * rows(i), total_ms))
                }
            }
            figcaption { (finding(measured, total_ms)) }
        }
    }
}

fn block(phase: &Phase, scale: &Scale, y: f64, height: f64) -> Markup {
    let (from, to) = (scale.at(phase.from_ms), scale.at(phase.to_ms));
    html! {
        rect class=(phase.part.class()) x=(px(from)) y=(px(y)) width=(px((to - from).max(0.6))) height=(px(height)) {
            title { (phase.what) ": " (duration(phase.ms())) }
        }
    }
}

fn row(phase: &Phase, scale: &Scale, y: f64, total_ms: f64) -> Markup {
    let share = if total_ms > 0.0 { phase.ms() / total_ms } else { 0.0 };
    html! {
        text x="0" y=(px(y + 15.0)) { (phase.what) }
        (block(phase, scale, y + 4.0, ROW - 8.0))
        text.end x=(px(RIGHT + 85.0)) y=(px(y + 15.0)) { (duration(phase.ms())) }
        text.soft.end x=(px(WIDTH)) y=(px(y + 15.0)) { (percent(share)) }
    }
}

fn finding(measured: &Measured, total_ms: f64) -> String {
    let Some(longest) = measured.phases.iter().max_by(|a, b| a.ms().total_cmp(&b.ms())) else {
        return String::new();
    };
    let mut text = format!(
        "Of the {} that {} takes, the longest phase is “{}”: {}, or {}.",
        duration(total_ms),
        one_of(measured),
        longest.what,
        duration(longest.ms()),
        percent(longest.ms() / total_ms.max(f64::MIN_POSITIVE)),
    );
    if let Some(first_run) = measured.phases.iter().find(|phase| phase.until == "vmm.first_run") {
        text.push_str(&format!(
            " From the command to the first instruction of the guest it is {}: that much is the virtual machine \
             monitor's, the rest is the guest's.",
            duration(first_run.to_ms)
        ));
    }
    text
}
