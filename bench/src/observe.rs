//! How a run tells its caller what it is doing. Nothing in this crate prints.

use std::time::Duration;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A step before the first sample: unpacking for peers, calibrating the harness, reading the host.
    Preparing {
        /// What is being done, as a phrase.
        what: String,
    },
    /// A subject is started without being counted.
    WarmingUp {
        /// The subject's label.
        subject: String,
    },
    /// The plan is made.
    Planned {
        /// Label and number of samples of each subject.
        counts: Vec<(String, usize)>,
        /// How long it will take, from the warm-up.
        estimate: Duration,
    },
    /// A sample begins.
    Sampling {
        /// Samples done before it.
        done: usize,
        /// Samples planned in all.
        total: usize,
        /// The subject's label.
        subject: String,
    },
    /// A sample was taken.
    Sampled {
        /// Samples done, this one included.
        done: usize,
        /// Samples planned in all.
        total: usize,
        /// The subject's label.
        subject: String,
        /// Its start time in milliseconds.
        start_ms: f64,
    },
    /// A sample failed; the run goes on.
    Failed {
        /// The subject's label.
        subject: String,
        /// Why.
        message: String,
    },
    /// A subject cannot be measured on this host and is left out.
    Absent {
        /// The subject's label.
        subject: String,
        /// Why.
        reason: String,
    },
    /// Sampling is over.
    Analysing,
}

/// Watches a run. `()` watches nothing.
pub trait Observer {
    /// Called between samples, never during one.
    fn notice(&mut self, progress: &Progress);

    /// Asked before each sample: `true` ends the run early, with a report on the samples so far.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {
    fn notice(&mut self, _progress: &Progress) {}
}
