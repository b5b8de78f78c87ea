//! A report as a table for the terminal: medians, intervals, ratios, verdicts, and what the reader must know.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::format::{bytes, duration, number};
use crate::report::{Comparison, Measured, Metric, Report, Summary};

/// The report as plain text of several lines, without colours.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = format!("{}, ready by {}\n", report.experiment.image, report.experiment.ready);
    for warning in &report.warnings {
        text.push_str(&format!("! {warning}\n"));
    }
    text.push_str(&table(report).to_string());
    text.push('\n');
    for sentence in findings(report) {
        text.push_str(&format!("{sentence}\n"));
    }
    text
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.force_no_tty().load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "n", "start, median", "95 % interval", "memory", "stored", "own", "guest"]);
    for measured in &report.subjects {
        table.add_row(row(measured));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(measured: &Measured) -> [String; 8] {
    let size = |of: fn(&crate::size::Size) -> Option<u64>| {
        measured.size.as_ref().and_then(of).map_or(String::new(), |b| bytes(b as f64))
    };
    [
        measured.subject.label.clone(),
        measured.samples.len().to_string(),
        measured.start.as_ref().map_or(String::new(), |start| duration(start.median)),
        measured.start.as_ref().map_or(String::new(), |start| interval(start, duration)),
        measured.memory.as_ref().map_or(String::new(), |memory| bytes(memory.median)),
        size(|size| size.shared_bytes),
        size(|size| size.own_bytes),
        size(|size| size.guest_bytes),
    ]
}

/// The interval of a summary's median, its ends written by `format`; empty when there is none.
pub(crate) fn interval(summary: &Summary, format: fn(f64) -> String) -> String {
    summary.interval.map_or(String::new(), |i| format!("{} – {}", format(i.low), format(i.high)))
}

/// What the comparisons show, one sentence each.
pub(crate) fn findings(report: &Report) -> Vec<String> {
    report.comparisons.iter().map(|comparison| finding(report, comparison)).collect()
}

/// What one comparison shows, in a sentence.
pub(crate) fn finding(report: &Report, comparison: &Comparison) -> String {
    let label = |id: &str| {
        let label = report.measured(id).map_or(id, |measured| measured.subject.label.as_str());
        label.trim_end_matches(" (A)").to_owned()
    };
    let (what, verdict) = match comparison.metric {
        Metric::StartTime => ("start time", comparison.verdict.of_time()),
        Metric::Memory => ("memory", comparison.verdict.of_amount()),
    };
    format!(
        "{what}: {} is {} × {} (95 % interval {} to {}): {verdict}",
        label(&comparison.subject),
        number(comparison.ratio),
        label(&comparison.reference),
        number(comparison.interval.low),
        number(comparison.interval.high),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use expect_test::expect;

    #[test]
    fn shows_figures_verdicts_and_warnings() {
        expect![[r#"
            demo, ready by http:80/
            ! KVM WITHOUT hardware assistance: on this host a guest's kernel is interpreted, many times slower than hardware would run it; its programs run natively. VM figures here say nothing about a host with VT-x or SVM and must not be compared with one.
            ─────────────────────────────────────────────────────────────────────────────────────────────────────
                               n   start, median       95 % interval     memory     stored        own      guest 
            ═════════════════════════════════════════════════════════════════════════════════════════════════════
             container (A)    30         30.8 ms   30.4 ms – 31.4 ms   2.15 MiB   5.00 MiB   12.0 KiB            
            ─────────────────────────────────────────────────────────────────────────────────────────────────────
             VM               30          15.7 s     15.6 s – 15.9 s   34.7 MiB   5.00 MiB    300 KiB   14.0 MiB 
            ─────────────────────────────────────────────────────────────────────────────────────────────────────
             container (A′)   30         30.9 ms   30.5 ms – 31.5 ms   2.15 MiB   5.00 MiB   12.0 KiB            
            ─────────────────────────────────────────────────────────────────────────────────────────────────────
            start time: VM is 510 × container (95 % interval 499 to 519): slower
            memory: VM is 16.1 × container (95 % interval 16.1 to 16.1): more
        "#]].assert_eq(&render(&example::report()));
    }

    #[test]
    fn what_was_not_measured_is_an_empty_cell() {
        let mut measured = example::report().subjects[0].clone();
        (measured.start, measured.memory, measured.size) = (None, None, None);
        assert_eq!(row(&measured)[2..], ["", "", "", "", "", ""]);
    }
}
