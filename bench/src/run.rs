//! The run: prepare, calibrate, warm up, plan, sample in the planned order, analyse. Knows nothing of how an instance
//! is run; that is the [`Executor`]'s.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::ms_between;
use crate::execute::host::Host;
use crate::execute::{ExecuteError, Executor, Observation};
use crate::observe::{Observer, Progress};
use crate::options::{Options, OptionsError, Ready};
use crate::plan;
use crate::report::analyse::analyse;
use crate::report::{Absent, Experiment, Measured, Milestone, Report, SCHEMA, Sample, save};
use crate::size::Size;
use crate::subject::Subject;

/// A subject that fails this often in a row is sampled no more.
const PATIENCE: usize = 3;
/// How much of the reply a report quotes, in characters.
const QUOTED: usize = 200;

/// The run ended without a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options cannot be measured.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No subject could be started even once.
    #[error("nothing could be measured on this host: {}", reasons.join("; "))]
    NothingMeasured {
        /// Each subject's reason.
        reasons: Vec<String>,
    },
    /// Two subjects answered differently, so that their figures cannot be compared.
    #[error(
        "{subject} answered {got:?} where {first} had answered {expected:?}: these are not the same app; \
         compare with a request whose reply does not change"
    )]
    DifferentReplies {
        /// The subject that answered first.
        first: String,
        /// What it answered, cut.
        expected: String,
        /// The subject that answered otherwise.
        subject: String,
        /// What that one answered, cut.
        got: String,
    },
    /// The report could not be saved.
    #[error(transparent)]
    Save(#[from] save::SaveError),
    /// The harness has no place for its own files.
    #[error("cannot make a directory for the harness's own files: {0}; is TMPDIR writable?")]
    Scratch(#[from] std::io::Error),
}

/// Runs the experiment that `options` describe and reports on it, telling `observer` how it goes.
///
/// A subject that this host cannot run is left out of the report and named in it.
///
/// # Errors
/// [`Error`]: wrong options, nothing at all that could be measured, subjects that answer differently, or a report that
/// cannot be saved. With [`Options::save`], the samples taken before are in that file.
pub fn run(options: &Options, observer: &mut dyn Observer) -> Result<Report, Error> {
    options.check()?;
    let mut host = Host::new(options)?;
    conduct(options, &mut host, observer)
}

/// The same with any executor.
pub(crate) fn conduct(
    options: &Options,
    executor: &mut dyn Executor,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    options.check()?;
    let mut run = Run::begin(options, executor, observer);
    run.prepare();
    run.calibrate();
    let costs = run.warm_up()?;
    let costs = run.add_control(costs);
    let order = run.plan(&costs);
    run.sample_all(&order)?;
    run.finish()
}

/// A run under way.
struct Run<'a> {
    options: &'a Options,
    executor: &'a mut dyn Executor,
    observer: &'a mut dyn Observer,
    begun_ns: u64,
    report: Report,
    /// Who answered first, and what.
    reply: Option<(String, Vec<u8>)>,
}

impl<'a> Run<'a> {
    fn begin(options: &'a Options, executor: &'a mut dyn Executor, observer: &'a mut dyn Observer) -> Self {
        let begun_ns = executor.now_ns();
        let environment = executor.environment();
        let report = Report {
            schema: SCHEMA,
            complete: false,
            begun_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            experiment: experiment(options),
            environment,
            calibration: None,
            subjects: Vec::new(),
            absent: Vec::new(),
            comparisons: Vec::new(),
            control: None,
            warnings: Vec::new(),
            fairness: Vec::new(),
            published: Vec::new(),
        };
        Self { options, executor, observer, begun_ns, report, reply: None }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.executor.now_ns().saturating_sub(self.begun_ns))
    }

    fn prepare(&mut self) {
        for subject in self.options.subjects() {
            self.observer.notice(&Progress::Preparing { what: format!("prepare {}", subject.label) });
            match self.executor.prepare(&subject) {
                Ok(command_line) => self.report.subjects.push(unmeasured(subject, command_line)),
                Err(error) => self.leave_out(&subject, &error),
            }
        }
    }

    fn leave_out(&mut self, subject: &Subject, error: &ExecuteError) {
        let absent = Absent { subject: subject.label.clone(), reason: error.to_string() };
        self.observer
            .notice(&Progress::Absent { subject: absent.subject.clone(), reason: absent.reason.clone() });
        self.report.absent.push(absent);
    }

    fn calibrate(&mut self) {
        self.observer.notice(&Progress::Preparing { what: "calibrate the harness".to_owned() });
        self.report.calibration = Some(self.executor.calibrate());
    }

    /// Starts each subject, uncounted, and leaves out those that fail. Returns what one start of each takes, stop
    /// included: the least of the warm-ups, as the first one also pays for cold caches.
    fn warm_up(&mut self) -> Result<Vec<Duration>, Error> {
        let mut costs = Vec::new();
        let mut kept = Vec::new();
        for measured in std::mem::take(&mut self.report.subjects) {
            match self.warm_up_one(&measured.subject)? {
                Ok(cost) => {
                    costs.push(cost);
                    kept.push(measured);
                }
                Err(error) => self.leave_out(&measured.subject, &error),
            }
        }
        self.report.subjects = kept;
        if self.report.subjects.is_empty() {
            let reasons = self.report.absent.iter().map(|a| format!("{}: {}", a.subject, a.reason)).collect();
            return Err(Error::NothingMeasured { reasons });
        }
        Ok(costs)
    }

    fn warm_up_one(&mut self, subject: &Subject) -> Result<Result<Duration, ExecuteError>, Error> {
        let mut least = Duration::MAX;
        // Without a warm-up a budget has nothing to reckon with; samples are then planned as if they were free.
        for _ in 0..self.options.warm_up {
            self.observer.notice(&Progress::WarmingUp { subject: subject.label.clone() });
            let before_ns = self.executor.now_ns();
            match self.executor.sample(subject) {
                Ok(observation) => self.check_reply(subject, &observation)?,
                Err(error) => return Ok(Err(error)),
            }
            least = least.min(Duration::from_nanos(self.executor.now_ns().saturating_sub(before_ns)));
        }
        Ok(Ok(if self.options.warm_up == 0 { Duration::ZERO } else { least }))
    }

    fn add_control(&mut self, mut costs: Vec<Duration>) -> Vec<Duration> {
        let Some(cheapest) = (0..costs.len()).min_by_key(|&i| costs[i]) else { return costs };
        let original = &mut self.report.subjects[cheapest];
        let twin = unmeasured(original.subject.twin(), original.command_line.clone());
        original.subject.label.push_str(" (A)");
        self.report.subjects.push(twin);
        costs.push(costs[cheapest]);
        costs
    }

    fn plan(&mut self, costs: &[Duration]) -> Vec<usize> {
        let left = self.options.budget.map(|budget| budget.saturating_sub(self.elapsed()));
        let counts = plan::fit(self.options.samples, costs, left);
        let factor = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let estimate =
            costs.iter().zip(&counts).map(|(cost, count)| cost.saturating_mul(factor(*count))).sum();
        let labels = self.report.subjects.iter().map(|m| m.subject.label.clone());
        self.observer
            .notice(&Progress::Planned { counts: labels.zip(counts.iter().copied()).collect(), estimate });
        plan::order(&counts, self.options.seed)
    }

    fn sample_all(&mut self, order: &[usize]) -> Result<(), Error> {
        let mut failures_in_a_row: HashMap<usize, usize> = HashMap::new();
        for (position, &index) in order.iter().enumerate() {
            if self.observer.should_stop() {
                return Ok(());
            }
            let in_a_row = failures_in_a_row.entry(index).or_default();
            let measured = &self.report.subjects[index];
            let over = self.options.budget.is_some_and(|budget| self.elapsed() >= budget);
            if *in_a_row >= PATIENCE || (over && !measured.samples.is_empty()) {
                continue;
            }
            let subject = measured.subject.clone();
            let (label, total) = (subject.label.clone(), order.len());
            self.observer.notice(&Progress::Sampling { done: position, total, subject: label.clone() });
            match self.executor.sample(&subject) {
                Ok(observation) => {
                    *in_a_row = 0;
                    self.check_reply(&subject, &observation)?;
                    let start_ms = self.record(index, observation);
                    let done = position + 1;
                    self.observer.notice(&Progress::Sampled { done, total, subject: label, start_ms });
                }
                Err(error) => {
                    *in_a_row += 1;
                    let message = error.to_string();
                    self.report.subjects[index].failures.push(message.clone());
                    self.observer.notice(&Progress::Failed { subject: label, message });
                }
            }
            self.save()?;
        }
        self.report.complete = true;
        Ok(())
    }

    /// Adds a sample to its subject; returns its start time in milliseconds.
    fn record(&mut self, index: usize, observation: Observation) -> f64 {
        let experiment = &mut self.report.experiment;
        let position = experiment.order.len();
        let measured = &mut self.report.subjects[index];
        experiment.order.push(measured.subject.id.clone());
        if experiment.digest.is_none() {
            experiment.digest.clone_from(&observation.digest);
        }
        measured.size = larger(measured.size.take(), observation.size.clone());
        let sample = sample(position, observation);
        let start_ms = sample.start_ms;
        measured.samples.push(sample);
        start_ms
    }

    fn check_reply(&mut self, subject: &Subject, observation: &Observation) -> Result<(), Error> {
        let Some((first, expected)) = &self.reply else {
            self.report.experiment.reply = Some(quoted(&observation.reply));
            self.reply = Some((subject.label.clone(), observation.reply.clone()));
            return Ok(());
        };
        if *expected == observation.reply {
            return Ok(());
        }
        let at =
            expected.iter().zip(&observation.reply).take_while(|(a, b)| a == b).count().saturating_sub(20);
        Err(Error::DifferentReplies {
            first: first.clone(),
            expected: quoted(&expected[at..]),
            subject: subject.label.clone(),
            got: quoted(&observation.reply[at.min(observation.reply.len())..]),
        })
    }

    fn save(&self) -> Result<(), Error> {
        if let Some(path) = &self.options.save {
            save::json(&self.report, path)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, Error> {
        self.observer.notice(&Progress::Analysing);
        let load_before = self.report.environment.load_before.take();
        self.report.environment = self.executor.environment();
        self.report.environment.load_before = load_before;
        self.report.environment.load_after = self.executor.load();
        analyse(&mut self.report);
        self.save()?;
        Ok(self.report)
    }
}

fn experiment(options: &Options) -> Experiment {
    let polled = matches!(options.ready, Ready::Http { .. });
    Experiment {
        image: options.image.clone(),
        digest: None,
        command: options.command.clone(),
        ready: options.ready.clone(),
        resolution_ms: polled.then_some(options.probe_period.as_secs_f64() * 1000.0),
        reply: None,
        seed: options.seed,
        order: Vec::new(),
        samples: options.samples,
        warm_up: options.warm_up,
        budget_s: options.budget.map(|budget| budget.as_secs_f64()),
        memory: options.memory.clone(),
        cpus: options.cpus,
        pin: options.pin.clone(),
        network: options.network,
        unified_cgroup_hidden: options.hides_unified_cgroup(),
    }
}

fn unmeasured(subject: Subject, command_line: Vec<String>) -> Measured {
    Measured {
        subject,
        command_line,
        samples: Vec::new(),
        failures: Vec::new(),
        start: None,
        phases: Vec::new(),
        memory: None,
        memory_parts: Vec::new(),
        cpu: None,
        size: None,
    }
}

fn sample(position: usize, observation: Observation) -> Sample {
    let Observation { spawn_ns, ready_ns, events, .. } = observation;
    let milestones = events
        .into_iter()
        .filter(|event| event.ns <= ready_ns)
        .map(|event| Milestone { at_ms: ms_between(spawn_ns, event.ns), event: event.event })
        .collect();
    Sample {
        position,
        spawn_ns,
        start_ms: ms_between(spawn_ns, ready_ns),
        outlier: false,
        milestones,
        probe_attempts: observation.probe_attempts,
        memory: observation.memory,
        stop_ms: observation.stop_ms,
        left_behind: observation.left_behind,
    }
}

/// Of two sizes of one subject, the one with the larger layer of its own: an instance that wrote more.
fn larger(a: Option<Size>, b: Option<Size>) -> Option<Size> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.own_bytes > a.own_bytes { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn quoted(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).chars().take(QUOTED).collect()
}

#[cfg(test)]
mod tests;
