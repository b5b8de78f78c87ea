//! The report: facts of the host, and what became of each check.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::json;

use crate::format;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    Skipped,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// A check that was made, or not.
#[derive(Debug, Clone)]
pub(super) struct Check {
    engine: &'static str,
    what: String,
    outcome: Outcome,
    took: Option<Duration>,
    /// What was found, what is wrong, or why it was skipped.
    finding: String,
}

impl Check {
    pub(super) fn new(engine: &'static str, what: &str, finding: Result<String, String>) -> Self {
        let outcome = if finding.is_ok() { Outcome::Ok } else { Outcome::Failed };
        // Much of it is what guests and other processes said, and terminals obey control characters.
        let finding = finding.unwrap_or_else(|e| e).trim().replace(char::is_control, " ");
        Self { engine, what: what.replace(char::is_control, " "), outcome, took: None, finding }
    }

    pub(super) fn skipped(engine: &'static str, what: &str, reason: &str) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::new(engine, what, Err(reason.to_owned())) }
    }

    pub(super) fn took(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }
}

/// All of it. Printed for people, or as JSON.
#[derive(Debug)]
pub(super) struct Report {
    /// What is known of the host, by name.
    pub(super) host: Vec<(&'static str, String)>,
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Whether nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Failed)
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|check| check.outcome == outcome).count()
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                json!({
                    "engine": check.engine,
                    "check": check.what,
                    "outcome": check.outcome.as_str().to_lowercase(),
                    "ms": check.took.map(|took| took.as_secs_f64() * 1e3),
                    "finding": check.finding,
                })
            })
            .collect();
        let host: serde_json::Map<_, _> =
            self.host.iter().map(|(name, fact)| ((*name).to_owned(), json!(fact))).collect();
        json!({ "ok": self.is_good(), "host": host, "checks": checks })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, fact) in &self.host {
            writeln!(f, "{name:<14} {fact}")?;
        }
        let mut table = format::table(["ENGINE", "CHECK", "", "MS", "FINDING"]);
        for Check { engine, what, outcome, took, finding } in &self.checks {
            let took = took.map(|took| format!("{:.1}", took.as_secs_f64() * 1e3)).unwrap_or_default();
            table.add_row([engine, what.as_str(), outcome.as_str(), &took, finding]);
        }
        write!(
            f,
            "\n{table}\n\n{} ok, {} failed, {} skipped",
            self.count(Outcome::Ok),
            self.count(Outcome::Failed),
            self.count(Outcome::Skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let took = Duration::from_micros(12_340);
        let checks = vec![
            Check::new("soft", "disk", Ok("read, write".to_owned())).took(took),
            Check::skipped("soft", "network", "no root"),
        ];
        Report { host: vec![("kernel", "6.18".to_owned())], checks }
    }

    #[test]
    fn only_a_failure_makes_it_bad() {
        let mut report = report();
        assert!(report.is_good());
        report.checks.push(Check::new("kvm", "tiny guest", Err("dead\x1b[2J\n".to_owned())));
        assert!(!report.is_good());
        let text = report.to_string();
        assert!(text.contains("dead [2J") && text.ends_with("1 ok, 1 failed, 1 skipped"), "{text}");
    }

    #[test]
    fn programs_read_names_and_figures() {
        let json = report().to_json();
        assert_eq!((&json["ok"], &json["host"]["kernel"]), (&json!(true), &json!("6.18")));
        assert_eq!(json["checks"][0]["ms"], json!(12.34));
        assert_eq!(
            json["checks"][1],
            json!({ "engine": "soft", "check": "network", "outcome": "skipped", "ms": null, "finding": "no root" })
        );
    }
}
