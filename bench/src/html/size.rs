//! How large one instance is on the wire and on disk, as a stack.

use maud::{Markup, html};

use super::scale::{Scale, Unit};
use super::{LEFT, RIGHT, WIDTH, legend, one_of, plain_label, px, rows};
use crate::format::bytes;
use crate::report::{Measured, Report};
use crate::size::Size;

/// Height of one subject's row.
const ROW: f64 = 44.0;

/// A part of a size: its colour, its name, where it comes from.
type Part = (&'static str, &'static str, fn(&Size) -> Option<u64>);

/// What lies on disk.
const ON_DISK: [Part; 3] = [
    ("c-files", "image, stored once for all instances of both models", |size| size.shared_bytes),
    ("c-guest", "guest kernel and initramfs, once for all VMs", |size| size.guest_bytes),
    ("c-app", "the one instance's own", |size| size.own_bytes),
];

/// The section.
pub(super) fn section(report: &Report) -> Markup {
    let shown: Vec<(&Measured, &Size)> =
        report.compared().filter_map(|m| Some((m, m.size.as_ref()?))).collect();
    if shown.is_empty() {
        return html! {};
    }
    let total = |size: &Size| ON_DISK.iter().filter_map(|part| (part.2)(size)).sum::<u64>() as f64;
    let max = shown.iter().map(|(_, size)| total(size)).fold(0.0, f64::max);
    let scale = Scale::linear(max, LEFT, RIGHT);
    let bottom = ROW * rows(shown.len()) + 6.0;
    html! {
        h2 { "Size on disk" }
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img" aria-label="size on disk" {
                (scale.axis(4.0, bottom, Unit::Amount))
                @for (i, (measured, size)) in shown.iter().enumerate() {
                    @let y = 8.0 + ROW * rows(i);
                    text.strong x="0" y=(px(y + 20.0)) { (plain_label(measured)) }
                    (stack(size, &scale, y))
                    text.strong x=(px(scale.at(total(size)) + 8.0)) y=(px(y + 20.0)) { (bytes(total(size))) }
                }
            }
            (legend(&ON_DISK.map(|(class, name, _)| (class, name))))
            figcaption { (finding(&shown)) }
        }
    }
}

fn stack(size: &Size, scale: &Scale, y: f64) -> Markup {
    let mut from = 0.0;
    let blocks: Vec<(&Part, f64, f64)> = ON_DISK
        .iter()
        .filter_map(|part| {
            let bytes = (part.2)(size)? as f64;
            from += bytes;
            Some((part, from - bytes, from))
        })
        .collect();
    html! {
        @for ((class, name, _), from, to) in blocks {
            rect class=(class) x=(px(scale.at(from))) y=(px(y)) height="30"
                width=(px((scale.at(to) - scale.at(from)).max(1.0))) { title { (name) ": " (bytes(to - from)) } }
        }
    }
}

fn finding(shown: &[(&Measured, &Size)]) -> String {
    let amount = |bytes_of: u64| bytes(bytes_of as f64);
    let mut text = String::new();
    if let Some((wire, stored)) = shown.iter().find_map(|(_, size)| size.wire_bytes.zip(size.shared_bytes)) {
        text.push_str(&format!(
            "The image is {} on the wire and {} as stored, the same files for both models. ",
            amount(wire),
            amount(stored)
        ));
    }
    let own: Vec<String> = shown
        .iter()
        .filter_map(|(m, size)| size.own_bytes.map(|own| format!("{} for {}", amount(own), one_of(m))))
        .collect();
    if !own.is_empty() {
        text.push_str(&format!("One more instance adds {}. ", own.join(", ")));
    }
    if let Some(guest) = shown.iter().find_map(|(_, size)| size.guest_bytes) {
        text.push_str(&format!(
            "Being able to run VMs at all takes {} of guest kernel and initramfs.",
            amount(guest)
        ));
    }
    text
}
