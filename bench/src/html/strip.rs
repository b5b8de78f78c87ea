//! Every start as a dot, so that nothing hides behind a median.

use maud::{Markup, html};

use super::scale::{Scale, Unit};
use super::start::colour;
use super::{LEFT, WIDTH, px, rows};
use crate::format::duration;
use crate::report::{Measured, Report};

/// Height of one subject's row.
const ROW: f64 = 46.0;
/// From this ratio of the longest to the shortest start on, every runtime has a picture of its own.
const WIDE: f64 = 12.0;
/// Vertical places that dots are spread over, in turn, so that equal times stay visible.
const PLACES: [f64; 5] = [0.0, 7.0, -7.0, 3.5, -3.5];

/// The section.
pub(super) fn section(report: &Report) -> Markup {
    let all: Vec<&Measured> = report.subjects.iter().filter(|m| !m.samples.is_empty()).collect();
    let Some((min, max)) = range(&all) else { return html! {} };
    let apart = max / min > WIDE;
    let groups: Vec<Vec<&Measured>> = if apart { by_runtime(&all) } else { vec![all] };
    html! {
        h2 { "Every start" }
        figure {
            @for group in &groups { (picture(group)) }
            figcaption {
                "Each dot is one start; the upright line is the median." (flagged(report))
                @if apart { " " em { "Every picture has its own scale." } }
            }
        }
    }
}

/// The subjects that one runtime ran, in the order first seen.
fn by_runtime<'a>(all: &[&'a Measured]) -> Vec<Vec<&'a Measured>> {
    let mut groups: Vec<Vec<&Measured>> = Vec::new();
    for measured in all {
        match groups.iter_mut().find(|group| group[0].subject.runtime == measured.subject.runtime) {
            Some(group) => group.push(measured),
            None => groups.push(vec![measured]),
        }
    }
    groups
}

fn range(group: &[&Measured]) -> Option<(f64, f64)> {
    let starts: Vec<f64> = group.iter().flat_map(|m| m.starts_ms()).filter(|ms| *ms > 0.0).collect();
    Some((starts.iter().copied().reduce(f64::min)?, starts.iter().copied().reduce(f64::max)?))
}

fn picture(group: &[&Measured]) -> Markup {
    let Some((min, max)) = range(group) else { return html! {} };
    let scale = Scale::around(min, max, LEFT, WIDTH - 20.0);
    let bottom = ROW * rows(group.len()) + 4.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 30.0)) role="img" aria-label="every start time" {
            (scale.axis(0.0, bottom, Unit::Time))
            @for (i, measured) in group.iter().enumerate() { (row(measured, &scale, ROW * (rows(i) + 0.5))) }
        }
    }
}

fn row(measured: &Measured, scale: &Scale, y: f64) -> Markup {
    html! {
        text x="0" y=(px(y + 5.0)) { (measured.subject.label) }
        @for (sample, place) in measured.samples.iter().zip(PLACES.iter().cycle()) {
            @let outlier = if sample.outlier { " outlier" } else { "" };
            circle class=(format!("dot {}{outlier}", colour(measured))) cx=(px(scale.at(sample.start_ms))) cy=(px(y + place)) r="3.4" {
                title { (duration(sample.start_ms)) }
            }
        }
        @if let Some(start) = &measured.start {
            @let x = px(scale.at(start.median));
            line.mark x1=(x) x2=(x) y1=(px(y - 16.0)) y2=(px(y + 16.0)) {}
        }
    }
}

fn flagged(report: &Report) -> String {
    match report.subjects.iter().flat_map(|m| &m.samples).filter(|sample| sample.outlier).count() {
        0 => " None is far from the others.".to_owned(),
        1 => " The ring is an outlier, flagged and kept.".to_owned(),
        n => format!(" The {n} rings are outliers, flagged and kept."),
    }
}
