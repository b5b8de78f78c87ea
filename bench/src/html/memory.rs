//! What one instance holds of the host's memory, as a stack, and the three views of it side by side.

use maud::{Markup, html};

use super::scale::{Scale, Unit};
use super::{LEFT, RIGHT, WIDTH, legend, one_of, plain_label, px, rows, sentence_case};
use crate::format::{bytes, number};
use crate::memory::{GuestMemory, Memory, Part, Reconciliation};
use crate::report::{Measured, Metric, Report};
use crate::statistics::quantile::median;

/// Height of one subject's row.
const ROW: f64 = 44.0;

/// A row of the table of views: its name and where its figure comes from.
type View = (&'static str, fn(&Memory) -> Option<f64>);

/// The section.
pub(super) fn section(report: &Report) -> Markup {
    let shown: Vec<&Measured> = report.compared().filter(|m| m.memory.is_some()).collect();
    if shown.is_empty() {
        return html! {
            h2 { "Memory" }
            p { "Memory was not measured: the app ended before it could be." }
        };
    }
    let mut kinds: Vec<_> = shown.iter().flat_map(|m| &m.memory_parts).map(|part| part.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let entries: Vec<(&str, &str)> = kinds.iter().map(|kind| (kind.class(), kind.name())).collect();
    html! {
        h2 { "Memory" }
        (figure(report, &shown))
        (legend(&entries))
        (breakdown(&shown))
        h3 { "Three views that must fit together" }
        (views(&shown))
    }
}

fn figure(report: &Report, shown: &[&Measured]) -> Markup {
    let total = |m: &Measured| m.memory_parts.iter().map(|part| part.bytes).sum::<f64>();
    let max = shown.iter().map(|m| total(m)).fold(0.0, f64::max);
    let scale = Scale::linear(max, LEFT, RIGHT);
    let bottom = ROW * rows(shown.len()) + 6.0;
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img" aria-label="memory of one instance" {
                (scale.axis(4.0, bottom, Unit::Amount))
                @for (i, measured) in shown.iter().enumerate() {
                    @let y = 8.0 + ROW * rows(i);
                    text.strong x="0" y=(px(y + 20.0)) { (plain_label(measured)) }
                    (stack(&measured.memory_parts, &scale, y))
                    text.strong x=(px(scale.at(total(measured)) + 8.0)) y=(px(y + 20.0)) { (bytes(total(measured))) }
                }
            }
            figcaption { (finding(report, shown)) }
        }
    }
}

fn stack(parts: &[Part], scale: &Scale, y: f64) -> Markup {
    let mut from = 0.0;
    let blocks: Vec<(&Part, f64, f64)> = parts
        .iter()
        .map(|part| {
            let block = (part, from, from + part.bytes);
            from += part.bytes;
            block
        })
        .collect();
    html! {
        @for (part, from, to) in blocks {
            rect class=(part.kind.class()) x=(px(scale.at(from))) y=(px(y)) height="30"
                width=(px(scale.at(to) - scale.at(from))) { title { (part.kind.name()) ": " (bytes(part.bytes)) } }
        }
    }
}

fn finding(report: &Report, shown: &[&Measured]) -> String {
    let of = |m: &&Measured| m.memory.as_ref().map(|s| format!("{} holds {}", one_of(m), bytes(s.median)));
    let mut text = sentence_case(&shown.iter().filter_map(of).collect::<Vec<_>>().join(", "));
    text.push_str(" of the host's memory");
    let ratio = report.comparisons.iter().find(|c| c.metric == Metric::Memory && c.subject == "vm");
    text.push_str(&ratio.map_or(".".to_owned(), |c| format!(": {} times as much.", number(c.ratio))));
    let ram = shown.iter().find_map(|m| median_of(m, |memory| memory.guest_ram_bytes.map(to_f64)));
    if let Some(ram) = ram {
        text.push_str(&format!(
            " {} of the VM's is RAM of its guest that the host has had to provide so far; the rest is the price of the \
             machine itself.",
            bytes(ram)
        ));
    }
    text
}

fn breakdown(shown: &[&Measured]) -> Markup {
    html! {
        details {
            summary { "The parts in figures" }
            div.scroll { table {
                thead { tr { th { "" } @for m in shown { th.n { (plain_label(m)) } } } }
                tbody {
                    @let mut kinds: Vec<_> = shown.iter().flat_map(|m| &m.memory_parts).map(|p| p.kind).collect();
                    @let () = { kinds.sort_unstable(); kinds.dedup(); };
                    @for kind in kinds {
                        tr {
                            th { (kind.name()) }
                            @for m in shown {
                                @let part = m.memory_parts.iter().find(|part| part.kind == kind);
                                td.n { (part.map_or(String::new(), |part| bytes(part.bytes))) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// The views, in the order of the table.
const VIEWS: [View; 16] = [
    ("processes: all", |m| Some(to_f64(m.process_bytes))),
    ("processes: guest RAM", |m| m.guest_ram_bytes.map(to_f64)),
    ("processes: all but guest RAM", |m| {
        m.guest_ram_bytes.map(|ram| to_f64(m.process_bytes.saturating_sub(ram)))
    }),
    ("cgroup: total", |m| reconciled(m, |r| Some(to_f64(r.cgroup_total)))),
    ("cgroup: its processes", |m| reconciled(m, |r| Some(to_f64(r.processes)))),
    ("cgroup: files in no process", |m| reconciled(m, |r| r.unmapped_files.map(to_f64))),
    ("cgroup: kernel", |m| reconciled(m, |r| r.kernel.map(to_f64))),
    ("cgroup: not explained", |m| reconciled(m, |r| Some(signed(r.remainder)))),
    ("cgroup: slab, within kernel", |m| m.cgroup.as_ref()?.slab.map(to_f64)),
    ("cgroup: page tables, within kernel", |m| m.cgroup.as_ref()?.page_tables.map(to_f64)),
    ("guest: all RAM its kernel manages", |m| guest(m, |g| g.total)),
    ("guest: free", |m| guest(m, |g| g.free)),
    ("guest: page cache", |m| guest(m, |g| g.page_cache)),
    ("guest: anonymous", |m| guest(m, |g| g.anon)),
    ("guest: kernel", |m| guest(m, |g| g.kernel)),
    ("guest: agent", |m| guest(m, |g| g.agent)),
];

fn views(shown: &[&Measured]) -> Markup {
    html! {
        p.small {
            "The sum over the processes, what the kernel charges to the cgroup, and what the guest sees, medians. \
             “Not explained” is the cgroup's total less everything named: it is printed so that nobody has to look for \
             it. Below zero, it is pages that were in memory already and charged to somebody else."
        }
        div.scroll { table {
            thead { tr { th { "" } @for m in shown { th.n { (plain_label(m)) } } } }
            tbody {
                @for (name, view) in VIEWS {
                    @let values: Vec<Option<f64>> = shown.iter().map(|m| median_of(m, view)).collect();
                    @if values.iter().any(Option::is_some) {
                        tr { th { (name) } @for value in values { td.n { (value.map_or(String::new(), bytes)) } } }
                    }
                }
            }
        } }
    }
}

fn median_of(measured: &Measured, view: fn(&Memory) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> =
        measured.samples.iter().filter_map(|s| s.memory.as_ref()).filter_map(view).collect();
    median(&values)
}

fn reconciled(memory: &Memory, of: fn(&Reconciliation) -> Option<f64>) -> Option<f64> {
    memory.reconciliation.as_ref().and_then(of)
}

fn guest(memory: &Memory, of: fn(&GuestMemory) -> u64) -> Option<f64> {
    memory.guest.as_ref().map(|guest| to_f64(of(guest)))
}

fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

fn signed(bytes: i64) -> f64 {
    bytes as f64
}
