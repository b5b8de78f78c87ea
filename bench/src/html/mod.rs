//! A report as one self-contained HTML page: no scripts, nothing fetched, drawn as inline SVG, readable in light and
//! dark and on paper. One file per figure; each says under itself what it shows.

mod facts;
mod memory;
mod scale;
mod size;
mod start;
mod strip;
mod summary;
mod waterfall;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::environment::Kvm;
use crate::format::date;
use crate::report::{Measured, Report};

/// Width of every picture, in its own units; the page scales it.
const WIDTH: f64 = 720.0;
/// Where labels end and bars begin.
const LEFT: f64 = 130.0;
/// Where bars end and their figures begin.
const RIGHT: f64 = 610.0;

/// The page.
#[must_use]
pub fn render(report: &Report) -> String {
    let title = format!("{}, {} ways", report.experiment.image, count_in_words(report.compared().count()));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (header(report, &title))
                (start::figure(report))
                (summary::section(report))
                (waterfall::section(report))
                (strip::section(report))
                (memory::section(report))
                (size::section(report))
                (facts::published(report))
                (facts::fairness(report))
                (facts::environment(report))
                (facts::reproduce(report))
            }
        }
    };
    page.into_string()
}

fn header(report: &Report, title: &str) -> Markup {
    let kvm = report.environment.kvm;
    let host_class = if kvm == Kvm::NoHardware { "host alert" } else { "host" };
    html! {
        header {
            h1 { (title) }
            p.soft { "Measured by carve bench on " (date(report.begun_unix_s)) "." }
            p class=(host_class) { (kvm.sentence()) }
            @let others: Vec<&String> = report.warnings.iter().filter(|w| *w != kvm.sentence()).collect();
            @if !others.is_empty() {
                ul.warnings { @for warning in others { li { (warning) } } }
            }
        }
    }
}

fn count_in_words(count: usize) -> String {
    match count {
        1 => "one".to_owned(),
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        _ => count.to_string(),
    }
}

/// A coordinate with a tenth of a unit.
fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// A number of rows, to multiply a height with.
fn rows(count: usize) -> f64 {
    count as f64
}

/// A subject's label without the letter that only matters beside its control.
fn plain_label(measured: &Measured) -> &str {
    measured.subject.label.trim_end_matches(" (A)")
}

/// `a container`, `a VM`.
fn one_of(measured: &Measured) -> String {
    format!("a {}", plain_label(measured))
}

/// A legend of colours.
fn legend(entries: &[(&str, &str)]) -> Markup {
    html! {
        ul.legend { @for (class, name) in entries { li { span class=(class) {} (name) } } }
    }
}

/// The first letter in upper case.
fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
