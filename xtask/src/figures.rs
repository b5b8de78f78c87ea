//! What the benchmarks of a program by itself find out: figures with limits, as a table or as JSON.

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use crate::engines::Times;
use crate::host::{Host, loads};
use crate::measuring::Limited;

/// One figure. What was not measured is absent.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    /// The figure, or the median of the samples.
    pub(crate) value: Option<f64>,
    samples: Vec<f64>,
    /// The most that it may be.
    limit: Option<f64>,
}

impl Figure {
    /// A single figure.
    pub(crate) fn one(name: &str, unit: &'static str, value: Option<f64>) -> Self {
        Self { name: name.to_owned(), unit, value, samples: Vec::new(), limit: None }
    }

    /// The median of `samples`.
    pub(crate) fn of_samples(name: &str, unit: &'static str, samples: Vec<f64>) -> Self {
        let value = Times::of(samples.iter().copied()).map(|times| times.median_s);
        Self { name: name.to_owned(), unit, value, samples, limit: None }
    }

    /// One that has a limit.
    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    fn holds(&self) -> Option<bool> {
        self.value.zip(self.limit).map(|(value, limit)| value <= limit)
    }
}

/// All that was found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    /// Before and after.
    pub(crate) load: [Option<f64>; 2],
    pub(crate) seed: u64,
    /// What could not be measured, and why.
    pub(crate) absent: Vec<String>,
    pub(crate) figures: Vec<Figure>,
}

impl Limited for Report {
    fn broken(&self) -> Vec<&str> {
        let broken = self.figures.iter().filter(|figure| figure.holds() == Some(false));
        broken.map(|figure| figure.name.trim()).collect()
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.force_no_tty().load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "median", "least", "most", "n", "unit", "limit", ""]);
        for figure in &self.figures {
            table.add_row(row(figure));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let absent: String = self.absent.iter().map(|absent| format!("not measured: {absent}\n")).collect();
        format!("{}\nseed {}; {}\n{absent}{table}\n", self.host, self.seed, loads(self.load))
    }
}

fn row(figure: &Figure) -> [String; 8] {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let times = Times::of(figure.samples.iter().copied());
    let verdict = match figure.holds() {
        Some(true) => "holds",
        Some(false) => "BEYOND",
        None => "",
    };
    let count = if figure.samples.is_empty() { String::new() } else { figure.samples.len().to_string() };
    [
        figure.name.clone(),
        number(figure.value),
        times.map_or_else(String::new, |times| number(Some(times.least_s))),
        times.map_or_else(String::new, |times| number(Some(times.most_s))),
        count,
        figure.unit.to_owned(),
        figure.limit.map_or_else(String::new, |limit| format!("≤ {limit}")),
        verdict.to_owned(),
    ]
}
