//! The first figure: the start times beside each other, on one scale.

use maud::{Markup, html};

use super::scale::{Scale, Unit};
use super::{LEFT, RIGHT, WIDTH, one_of, plain_label, px, rows, sentence_case};
use crate::format::{duration, number};
use crate::report::{Comparison, Measured, Metric, Report, Summary};
use crate::statistics::verdict::Verdict;

/// Height of one subject's row.
const ROW: f64 = 44.0;

/// The figure and what it shows.
pub(super) fn figure(report: &Report) -> Markup {
    let shown: Vec<(&Measured, &Summary)> =
        report.compared().filter_map(|measured| Some((measured, measured.start.as_ref()?))).collect();
    if shown.is_empty() {
        return html! { p.lede { "No start was measured." } };
    }
    let reach = |summary: &Summary| summary.interval.map_or(summary.median, |i| i.high.max(summary.median));
    let max = shown.iter().map(|(_, summary)| reach(summary)).fold(0.0, f64::max);
    let scale = Scale::linear(max, LEFT, RIGHT);
    let bottom = ROW * rows(shown.len()) + 6.0;
    html! {
        p.lede { (finding(report)) }
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img" aria-label="start times" {
                (scale.axis(4.0, bottom, Unit::Time))
                @for (i, (measured, summary)) in shown.iter().enumerate() {
                    (bar(measured, summary, &scale, 8.0 + ROW * rows(i)))
                }
            }
            figcaption.soft.small {
                "Start time: from the instant before the command is executed to the first correct reply of the app. \
                 Bars are medians, on one scale; the thin line is the 95 % interval of the median."
            }
        }
    }
}

fn bar(measured: &Measured, summary: &Summary, scale: &Scale, y: f64) -> Markup {
    let end = scale.at(summary.median);
    let middle = px(y + 15.0);
    html! {
        text.strong x="0" y=(px(y + 20.0)) { (plain_label(measured)) }
        rect class=(colour(measured)) x=(px(LEFT)) y=(px(y)) width=(px((end - LEFT).max(1.5))) height="30" rx="2" {}
        @if let Some(interval) = summary.interval {
            line.mark x1=(px(scale.at(interval.low))) x2=(px(scale.at(interval.high))) y1=(middle) y2=(middle) {}
        }
        @let after = interval_end(summary, scale).max(end) + 8.0;
        text.strong x=(px(after)) y=(px(y + 20.0)) { (duration(summary.median)) }
    }
}

fn interval_end(summary: &Summary, scale: &Scale) -> f64 {
    summary.interval.map_or(0.0, |interval| scale.at(interval.high))
}

/// A subject's colour where the subject as a whole is shown.
pub(super) fn colour(measured: &Measured) -> &'static str {
    use crate::subject::Runtime;
    match measured.subject.runtime {
        Runtime::Container => "c-network",
        Runtime::Vm => "c-isolation",
        Runtime::Crun => "c-engine",
    }
}

/// What the start times show, in one or two sentences.
fn finding(report: &Report) -> String {
    let of = |measured: &Measured| {
        let median = measured.start.as_ref().map(|start| duration(start.median));
        median.map(|median| format!("{} answers after {median}", one_of(measured)))
    };
    let times: Vec<String> = report.compared().filter_map(of).collect();
    let mut text = sentence_case(&format!("{}.", times.join(", ")));
    for comparison in report.comparisons.iter().filter(|c| c.metric == Metric::StartTime) {
        text.push(' ');
        text.push_str(&compared(report, comparison));
    }
    text
}

fn compared(report: &Report, comparison: &Comparison) -> String {
    let name = |id: &str| report.measured(id).map_or_else(|| id.to_owned(), |m| plain_label(m).to_owned());
    let (subject, reference) = (name(&comparison.subject), name(&comparison.reference));
    match comparison.verdict {
        Verdict::NoDifferenceShown => {
            format!("Between {subject} and {reference} no difference was shown.")
        }
        Verdict::More => {
            format!("The {subject} takes {} times as long as the {reference}.", number(comparison.ratio))
        }
        Verdict::Less => {
            format!("The {subject} takes {} of the time of the {reference}.", percent(comparison.ratio))
        }
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.0005 {
        return "< 0.1 %".to_owned();
    }
    let decimals = usize::from(share.abs() < 0.1);
    format!("{:.decimals$} %", share * 100.0)
}
