//! The figures: raw samples, medians, their ratio and whether it keeps to the limit; as JSON or as a table.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::engine::Engine;
use super::interpreter::Interpreter;
use super::run::Run;
use super::workload::Workload;
use crate::host::{Host, loads};
use crate::measuring::Limited;

/// A run's times, in seconds from the start of the command.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) engine: Engine,
    pub(crate) workload: Workload,
    pub(crate) to_init_s: f64,
    pub(crate) to_end_s: f64,
}

impl Sample {
    pub(crate) fn new(round: u32, engine: Engine, workload: Workload, run: &Run) -> Self {
        let (to_init_s, to_end_s) = (run.to_init.as_secs_f64(), run.to_end.as_secs_f64());
        Self { round, engine, workload, to_init_s, to_end_s }
    }
}

/// An engine that was not measured, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Absent {
    pub(crate) engine: Engine,
    pub(crate) reason: String,
}

/// All that was found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    /// Before and after.
    pub(crate) load: [Option<f64>; 2],
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) absent: Vec<Absent>,
    pub(crate) rows: Vec<Row>,
    pub(crate) interpreter: Option<Interpreter>,
    pub(crate) samples: Vec<Sample>,
}

/// A comparison. What was not measured is absent.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) soft: Option<Times>,
    pub(crate) tcg: Option<Times>,
    pub(crate) kvm: Option<Times>,
    /// Median by median: `soft` / `tcg`.
    pub(crate) ratio: Option<f64>,
    /// The most that the ratio may be.
    pub(crate) limit: Option<f64>,
    /// Whether it is that.
    pub(crate) holds: Option<bool>,
}

/// Samples of one kind, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Times {
    pub(crate) median_s: f64,
    pub(crate) least_s: f64,
    pub(crate) most_s: f64,
}

impl Times {
    /// The figures of `values`; none if there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // The two in the middle, which are the same one when the number is odd.
        let median_s = f64::midpoint(values[last / 2], values[last - last / 2]);
        Some(Self { median_s, least_s: values[0], most_s: values[last] })
    }
}

/// The comparisons that the samples allow.
pub(crate) fn rows(samples: &[Sample]) -> Vec<Row> {
    let boot_to_init = row("boot to init's first line", None, |engine| {
        let boots = samples.iter().filter(|s| s.engine == engine && s.workload == Workload::Boot);
        Times::of(boots.map(|sample| sample.to_init_s))
    });
    let whole_runs = Workload::ALL.iter().map(|&workload| {
        row(&workload.title(), Some(workload.limit()), |engine| {
            let runs = samples.iter().filter(|s| s.engine == engine && s.workload == workload);
            Times::of(runs.map(|sample| sample.to_end_s))
        })
    });
    std::iter::once(boot_to_init).chain(whole_runs).collect()
}

fn row(title: &str, limit: Option<f64>, times: impl Fn(Engine) -> Option<Times>) -> Row {
    let (soft, tcg, kvm) = (times(Engine::Soft), times(Engine::Tcg), times(Engine::Kvm));
    let ratio = soft.zip(tcg).map(|(soft, tcg)| soft.median_s / tcg.median_s);
    let holds = ratio.zip(limit).map(|(ratio, limit)| ratio <= limit);
    Row { title: title.to_owned(), soft, tcg, kvm, ratio, limit, holds }
}

impl Limited for Report {
    fn broken(&self) -> Vec<&str> {
        let rows = self.rows.iter().filter(|row| row.holds == Some(false)).map(|row| row.title.as_str());
        let slow = self.interpreter.as_ref().is_some_and(|interpreter| !interpreter.is_fast_enough());
        rows.chain(slow.then_some("the interpreter's speed")).collect()
    }

    fn text(&self) -> String {
        let mut text = self.circumstances();
        text.push_str(&self.table().to_string());
        text.push('\n');
        if let Some(interpreter) = &self.interpreter {
            text.push_str(&format!("{interpreter}\n"));
        }
        text
    }
}

impl Report {
    fn circumstances(&self) -> String {
        let (host, load) = (&self.host, loads(self.load));
        let mut text =
            format!("{host}\nrounds in random order: {}, seed {}; {load}\n", self.rounds, self.seed);
        for absent in &self.absent {
            text.push_str(&format!("not measured: {}: {}\n", absent.engine.title(), absent.reason));
        }
        text
    }

    fn table(&self) -> Table {
        let with_kvm = self.rows.iter().any(|row| row.kvm.is_some());
        let mut table = Table::new();
        table.force_no_tty().load_style(UTF8_HORIZONTAL_ONLY);
        let engines = [Some(Engine::Soft), Some(Engine::Tcg), with_kvm.then_some(Engine::Kvm)];
        let titles = engines.iter().flatten().map(|engine| engine.title());
        table.set_header(["seconds, median (least – most)"].into_iter().chain(titles).chain([
            "soft / TCG",
            "limit",
            "holds",
        ]));
        for row in &self.rows {
            table.add_row(cells(row, with_kvm));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn cells(row: &Row, with_kvm: bool) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    let verdict = row.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
    let mut cells = vec![row.title.clone(), seconds(row.soft), seconds(row.tcg)];
    cells.extend(with_kvm.then(|| seconds(row.kvm)));
    cells.extend([number(row.ratio), number(row.limit), verdict.to_owned()]);
    cells
}

fn seconds(times: Option<Times>) -> String {
    times.map_or_else(String::new, |times| {
        format!("{:.2} ({:.2} – {:.2})", times.median_s, times.least_s, times.most_s)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(engine: Engine, workload: Workload, to_end_s: f64) -> Sample {
        Sample { round: 1, engine, workload, to_init_s: to_end_s / 2.0, to_end_s }
    }

    fn report(samples: Vec<Sample>) -> Report {
        let host = Host {
            cpu: Some("A CPU".into()),
            cpus: 2,
            hardware_virtualisation: false,
            kernel: Some("6.1".into()),
            qemu: None,
        };
        let absent = vec![Absent { engine: Engine::Kvm, reason: "it is slow".into() }];
        let rows = rows(&samples);
        Report {
            host,
            load: [Some(0.25), None],
            seed: 7,
            rounds: 1,
            absent,
            rows,
            interpreter: None,
            samples,
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let median = |values: &[f64]| Times::of(values.iter().copied()).map(|times| times.median_s);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[5.0]), Some(5.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn limits_are_held_against_the_ratio_of_medians() {
        let report = report(vec![
            sample(Engine::Soft, Workload::Boot, 0.7),
            sample(Engine::Tcg, Workload::Boot, 1.0),
            sample(Engine::Soft, Workload::Awk, 1.6),
            sample(Engine::Tcg, Workload::Awk, 10.0),
            sample(Engine::Soft, Workload::Gzip, 1.0),
        ]);
        let holds: Vec<Option<bool>> = report.rows.iter().map(|row| row.holds).collect();
        assert_eq!(holds, [None, Some(true), Some(false), None, None, None]);
        assert_eq!(report.broken(), [Workload::Awk.title()]);
    }

    #[test]
    fn what_was_not_measured_leaves_its_cells_empty() {
        let text =
            report(vec![sample(Engine::Soft, Workload::Boot, 0.7), sample(Engine::Tcg, Workload::Boot, 1.0)])
                .text();
        let line = |start: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let boot = "boot to power-off 0.70 (0.70 – 0.70) 1.00 (1.00 – 1.00) 0.70 0.70 yes";
        assert_eq!(line("boot to power-off"), boot);
        assert_eq!(line("getpid"), "getpid, 100000 times 1.00");
        assert_eq!(line("not measured"), "not measured: carve, kvm: it is slow");
        assert!(!text.contains("carve, kvm  "), "{text}");
    }
}
