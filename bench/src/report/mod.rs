//! The report: every raw sample, what was derived from them, and the circumstances. Plain data that survives a round
//! trip through JSON; a figure that was not measured is absent from it, never 0.
//!
//! [`analyse`] derives the figures, [`phases`] the waterfall, [`fairness`] says what was done about each rule,
//! [`published`] holds other people's figures, [`save`] writes the file.

pub mod analyse;
pub mod fairness;
pub mod phases;
pub mod published;
pub mod save;

use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::environment::Environment;
use crate::memory::{Memory, Part};
use crate::options::Ready;
use crate::size::Size;
use crate::statistics::bootstrap::Interval;
use crate::statistics::verdict::Verdict;
use crate::subject::Subject;

/// The version of this schema; raised when a reader of the old one would misread the new one.
pub const SCHEMA: u32 = 1;

/// One run of the experiment and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether the run went on to its end; `false` in what an interrupted run leaves behind.
    pub complete: bool,
    /// When the run began, in seconds since the Unix epoch.
    pub begun_unix_s: u64,
    /// What was asked for.
    pub experiment: Experiment,
    /// The host, before and after.
    pub environment: Environment,
    /// What the harness itself costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What was measured, the reference of the comparisons first.
    pub subjects: Vec<Measured>,
    /// What was to be measured and could not be.
    #[serde(default)]
    pub absent: Vec<Absent>,
    /// Each subject against the reference.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// The same subject against itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Comparison>,
    /// What the reader must know before the figures, most important first.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The rules of fairness and what was done about each.
    #[serde(default)]
    pub fairness: Vec<fairness::Rule>,
    /// Figures of others, from other machines.
    #[serde(default)]
    pub published: Vec<published::Published>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The image.
    pub image: String,
    /// Its digest, as the instances reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The command; empty for the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// What counts as ready.
    pub ready: Ready,
    /// The pause between two attempts of the HTTP probe, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ms: Option<f64>,
    /// The reply all subjects gave, cut to a few hundred characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Where the order and the resampling come from.
    pub seed: u64,
    /// The subjects' ids in the order they were sampled in.
    pub order: Vec<String>,
    /// Samples asked for, of each subject.
    pub samples: usize,
    /// Starts of each subject before the first counted one.
    pub warm_up: usize,
    /// The time given, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_s: Option<f64>,
    /// `--memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// `--cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// The host CPUs every subject was confined to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Vec<usize>>,
    /// Whether instances had a network.
    pub network: bool,
    /// Whether every subject ran where the unified cgroup mount is hidden.
    pub unified_cgroup_hidden: bool,
}

/// A subject and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The subject.
    pub subject: Subject,
    /// The command that started an instance, `NAME`, `PORT` and `FILE` standing for what differed.
    pub command_line: Vec<String>,
    /// Every sample, in the order taken.
    pub samples: Vec<Sample>,
    /// Samples that failed, by their message.
    #[serde(default)]
    pub failures: Vec<String>,
    /// Spawn to ready, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Summary>,
    /// Where the start time went; the last ends at ready.
    #[serde(default)]
    pub phases: Vec<phases::Phase>,
    /// Sum of the proportional set sizes of all processes of an instance, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Summary>,
    /// What the memory is made of, medians in bytes; they add up to about `memory`.
    #[serde(default)]
    pub memory_parts: Vec<Part>,
    /// CPU time of all processes of an instance until it was measured after ready, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Summary>,
    /// Bytes on the wire and on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// One start of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its place in the order of the run, from 0.
    pub position: usize,
    /// Host monotonic clock at spawn, in nanoseconds.
    pub spawn_ns: u64,
    /// Spawn to ready, in milliseconds.
    pub start_ms: f64,
    /// Whether its start time is far from the others'. Flagged, not dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlier: bool,
    /// The milestones between, in the order they occurred.
    #[serde(default)]
    pub milestones: Vec<Milestone>,
    /// Attempts of the HTTP probe, the successful one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_attempts: Option<u32>,
    /// Memory once ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The request to stop until the command had ended, in milliseconds; absent when the app ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_ms: Option<f64>,
    /// What was still there two seconds after the command had ended: processes, cgroups, mounts, links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
}

/// An instant that the runtime reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Milestone {
    /// Its name.
    pub event: String,
    /// Milliseconds after spawn.
    pub at_ms: f64,
}

/// A series in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub n: usize,
    /// The median.
    pub median: f64,
    /// The 95 % bootstrap interval of the median; absent for one sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The 99th percentile; absent under 100 samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// How many values are flagged as outliers.
    pub outliers: usize,
}

/// A subject that is not in the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// Its label.
    pub subject: String,
    /// Why, in the words of what failed.
    pub reason: String,
}

/// What a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Spawn to ready.
    StartTime,
    /// The process view of memory.
    Memory,
}

/// One subject's median over the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared.
    pub metric: Metric,
    /// The id of the subject.
    pub subject: String,
    /// The id of the reference.
    pub reference: String,
    /// The ratio of medians, subject over reference.
    pub ratio: f64,
    /// Its 95 % bootstrap interval.
    pub interval: Interval,
    /// The p-value of the rank-sum test.
    pub p: f64,
    /// The same after Holm's correction; equal to `p` for the control, which correction would only make laxer.
    pub p_corrected: f64,
    /// What it shows.
    pub verdict: Verdict,
}

impl Report {
    /// The report as indented JSON, one line break at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json =
            serde_json::to_string_pretty(self).expect("plain data with string keys always serialises");
        json.push('\n');
        json
    }

    /// Whether the A/A control came out as it must; `None` when there was none.
    #[must_use]
    pub fn control_passed(&self) -> Option<bool> {
        self.control.as_ref().map(|control| control.verdict == Verdict::NoDifferenceShown)
    }

    /// The subject with this id.
    #[must_use]
    pub fn measured(&self, id: &str) -> Option<&Measured> {
        self.subjects.iter().find(|measured| measured.subject.id == id)
    }

    /// The subjects without the second half of the control.
    pub fn compared(&self) -> impl Iterator<Item = &Measured> {
        self.subjects.iter().filter(|measured| !measured.subject.control)
    }
}

impl Measured {
    /// The start times in milliseconds, in the order taken.
    #[must_use]
    pub fn starts_ms(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.start_ms).collect()
    }

    /// The memory of the samples that have it, process view, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> Vec<f64> {
        self.samples
            .iter()
            .filter_map(|sample| sample.memory.as_ref())
            .map(|m| m.process_bytes as f64)
            .collect()
    }
}

#[cfg(test)]
mod tests;
