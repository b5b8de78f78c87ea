//! A report as one self-contained HTML page.

use maud::{DOCTYPE, html};

use crate::format::date;
use crate::report::Report;

/// The page.
#[must_use]
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "carve bench: " (report.experiment.image) }
            }
            body {
                h1 { (report.experiment.image) }
                p { (date(report.begun_unix_s)) ". " (report.environment.kvm.sentence()) }
                pre { (crate::table::render(report)) }
            }
        }
    };
    page.into_string()
}
