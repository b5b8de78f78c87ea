//! The tables that a figure rests on: other people's figures, the rules of fairness, the host, and how to repeat it.

use maud::{Markup, html};

use crate::format::number;
use crate::report::{Metric, Report};

/// What others measured, on other machines.
pub(super) fn published(report: &Report) -> Markup {
    if report.published.is_empty() {
        return html! {};
    }
    html! {
        h2 { "What others measured" }
        p { "On other machines, with other software, years ago: an order of magnitude, not a comparison." }
        div.scroll { table {
            thead { tr { th { "" } th { "what" } th.n { "published" } th { "source" } } }
            tbody {
                @for entry in &report.published {
                    tr {
                        th { (match entry.metric { Metric::StartTime => "start", Metric::Memory => "memory" }) }
                        td { (entry.what) }
                        td.n { (number(entry.value)) " " (entry.unit) }
                        td { (entry.source) "; another machine" }
                    }
                }
            }
        } }
    }
}

/// The rules and what was done about each.
pub(super) fn fairness(report: &Report) -> Markup {
    html! {
        h2 { "Was it fair?" }
        div.scroll { table {
            thead { tr { th { "rule" } th { "in this run" } } }
            tbody { @for rule in &report.fairness { tr { th { (rule.rule) } td { (rule.done) } } } }
        } }
    }
}

/// The host.
pub(super) fn environment(report: &Report) -> Markup {
    let environment = &report.environment;
    html! {
        h2 { "The host" }
        div.scroll { table { tbody {
            tr { th { "KVM" } td { (environment.kvm.sentence()) } }
            @for fact in &environment.facts { tr { th { (fact.name) } td { code { (fact.value) } } } }
            @if let Some(load) = &environment.load_before { tr { th { "load before" } td { code { (load) } } } }
            @if let Some(load) = &environment.load_after { tr { th { "load after" } td { code { (load) } } } }
        } } }
    }
}

/// The command lines and the settings.
pub(super) fn reproduce(report: &Report) -> Markup {
    let experiment = &report.experiment;
    html! {
        h2 { "To repeat it" }
        div.scroll { table { tbody {
            tr { th { "image" } td { code { (experiment.image) } } }
            @if let Some(digest) = &experiment.digest { tr { th { "digest" } td { code { (digest) } } } }
            tr { th { "ready by" } td { code { (experiment.ready) } } }
            @if let Some(reply) = &experiment.reply { tr { th { "the reply" } td { code { (reply) } } } }
            tr { th { "seed" } td { code { (experiment.seed) } } }
            @for measured in report.compared() {
                tr { th { (super::plain_label(measured)) } td { code { (measured.command_line.join(" ")) } } }
            }
        } } }
        p.small.soft { "Every raw sample is in the JSON beside this page (schema " (report.schema) ")." }
    }
}
