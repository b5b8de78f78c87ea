use super::*;
use crate::example::{Scripted, observation};
use crate::statistics::generator::Generator;
use crate::subject::Runtime;

/// Remembers what it was told; stops when asked to.
#[derive(Default)]
struct Witness {
    told: Vec<Progress>,
    stop_after: Option<usize>,
}

impl Observer for Witness {
    fn notice(&mut self, progress: &Progress) {
        self.told.push(progress.clone());
    }

    fn should_stop(&mut self) -> bool {
        let sampled = self.told.iter().filter(|p| matches!(p, Progress::Sampled { .. })).count();
        self.stop_after.is_some_and(|most| sampled >= most)
    }
}

fn options(samples: usize) -> Options {
    Options { samples, ..Options::new("carve".into(), "demo") }
}

/// Scripted, but a start of `runtime` does `instead`.
fn with(
    runtime: Runtime,
    mut instead: impl FnMut(&mut Observation) -> Option<ExecuteError> + 'static,
) -> Scripted {
    let mut generator = Generator::new(5);
    let mut executor = Scripted::new();
    executor.script = Box::new(move |subject, spawn_ns| {
        let mut observation = observation(subject.runtime, spawn_ns, &mut generator);
        match if subject.runtime == runtime { instead(&mut observation) } else { None } {
            Some(error) => Err(error),
            None => Ok(observation),
        }
    });
    executor
}

fn refused() -> ExecuteError {
    ExecuteError::Ended { status: "exit status: 125".into(), message: "no /dev/kvm".into() }
}

#[test]
fn samples_are_taken_in_the_planned_order_after_uncounted_warm_ups() {
    let mut executor = Scripted::new();
    let report = conduct(&options(4), &mut executor, &mut ()).expect("runs");
    assert_eq!(executor.started[..2], ["container", "vm"]);
    assert_eq!(executor.started[2..], report.experiment.order);
    let ids = ["container", "vm", "container-again"];
    let planned: Vec<&str> =
        plan::order(&[4, 4, 4], report.experiment.seed).iter().map(|&i| ids[i]).collect();
    assert_eq!(report.experiment.order, planned);
    assert!(report.complete && report.subjects.iter().all(|m| m.samples.len() == 4));
}

#[test]
fn the_control_is_the_cheapest_subject_twice() {
    let report = conduct(&options(3), &mut Scripted::new(), &mut ()).expect("runs");
    let labels: Vec<&str> = report.subjects.iter().map(|m| m.subject.label.as_str()).collect();
    assert_eq!(labels, ["container (A)", "VM", "container (A′)"]);
    assert_eq!(report.control.expect("a control").subject, "container-again");
}

#[test]
fn the_time_given_is_kept_and_the_slow_subject_gets_fewer_samples() {
    let mut executor = Scripted::new();
    let options = Options { budget: Some(Duration::from_secs(100)), ..options(30) };
    let begun_ns = executor.clock_ns;
    let report = conduct(&options, &mut executor, &mut ()).expect("runs");
    let n = |id| report.measured(id).expect("measured").samples.len();
    assert_eq!((n("container"), n("container-again")), (30, 30));
    assert!((3..=5).contains(&n("vm")), "{}", n("vm"));
    assert!(executor.clock_ns - begun_ns < 116_000_000_000, "at most one start over");
    assert!(report.warnings.iter().any(|w| w.contains("of 30 samples were taken")), "{:?}", report.warnings);
}

#[test]
fn a_subject_that_cannot_be_prepared_or_started_is_left_out_and_named() {
    let mut executor = with(Runtime::Vm, |_| Some(refused()));
    executor.unprepared.insert(Runtime::Crun, "no such program".into());
    let options = Options {
        runtimes: vec![Runtime::Container, Runtime::Vm, Runtime::Crun],
        ready: Ready::Output,
        network: false,
        command: vec!["true".into()],
        ..options(3)
    };
    let report = conduct(&options, &mut executor, &mut ()).expect("the container runs");
    let absent: Vec<&str> = report.absent.iter().map(|a| a.subject.as_str()).collect();
    assert_eq!(absent, ["crun", "VM"]);
    assert!(report.absent[1].reason.contains("no /dev/kvm"));
    assert!(report.measured("vm").is_none() && report.comparisons.is_empty());
}

#[test]
fn nothing_measured_is_an_error_with_every_reason() {
    let mut executor = with(Runtime::Vm, |_| Some(refused()));
    executor.unprepared.insert(Runtime::Container, "no cgroups".into());
    let error = conduct(&options(3), &mut executor, &mut ()).expect_err("nothing runs").to_string();
    assert!(error.contains("no /dev/kvm") && error.contains("no cgroups"), "{error}");
}

#[test]
fn different_replies_end_the_run() {
    let mut executor = with(Runtime::Vm, |observation| {
        observation.reply = b"hello from another".to_vec();
        None
    });
    let error = conduct(&options(3), &mut executor, &mut ()).expect_err("not the same app");
    assert!(matches!(&error, Error::DifferentReplies { subject, .. } if subject == "VM"), "{error}");
}

#[test]
fn a_start_that_fails_is_counted_and_three_in_a_row_end_its_subject() {
    let mut starts = 0;
    let mut executor = with(Runtime::Vm, move |_| {
        starts += 1;
        (starts > 2).then(refused)
    });
    let report = conduct(&options(10), &mut executor, &mut ()).expect("runs");
    let vm = report.measured("vm").expect("it was measured once");
    assert_eq!((vm.samples.len(), vm.failures.len()), (1, 3));
    assert_eq!(report.measured("container").expect("measured").samples.len(), 10);
    assert!(report.warnings.iter().any(|w| w.contains("VM: 3 starts failed")), "{:?}", report.warnings);
}

#[test]
fn an_interrupted_run_leaves_its_samples_in_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("report.json");
    let mut starts = 0;
    let mut executor = with(Runtime::Container, move |observation| {
        starts += 1;
        if starts == 6 {
            observation.reply = b"something else".to_vec();
        }
        None
    });
    let options = Options { save: Some(path.clone()), ..options(10) };
    conduct(&options, &mut executor, &mut ()).expect_err("ends at the sixth container");
    let saved: Report = serde_json::from_slice(&std::fs::read(&path).expect("saved")).expect("a report");
    assert!(!saved.complete);
    assert_eq!(saved.subjects.iter().map(|m| m.samples.len()).sum::<usize>(), saved.experiment.order.len());
    assert!(saved.experiment.order.len() >= 4);
}

#[test]
fn an_observer_can_end_the_run_early_with_a_report() {
    let mut witness = Witness { stop_after: Some(5), ..Witness::default() };
    let report = conduct(&options(10), &mut Scripted::new(), &mut witness).expect("reports");
    assert!(!report.complete);
    assert_eq!(report.experiment.order.len(), 5);
    assert!(report.warnings.iter().any(|w| w.contains("did not go to its end")));
}

#[test]
fn an_observer_hears_of_every_step() {
    let mut witness = Witness::default();
    conduct(&options(2), &mut Scripted::new(), &mut witness).expect("runs");
    let counts = |wanted: fn(&Progress) -> bool| witness.told.iter().filter(|p| wanted(p)).count();
    assert_eq!(counts(|p| matches!(p, Progress::WarmingUp { .. })), 2);
    assert_eq!(counts(|p| matches!(p, Progress::Planned { .. })), 1);
    assert_eq!(counts(|p| matches!(p, Progress::Sampled { .. })), 6);
    assert_eq!(witness.told.last(), Some(&Progress::Analysing));
}

#[test]
fn milestones_are_relative_to_spawn_and_end_at_ready() {
    let mut executor = with(Runtime::Container, |observation| {
        let exited = crate::execute::Event { event: "exited".into(), ns: observation.ready_ns + 1 };
        observation.events.push(exited);
        None
    });
    let report = conduct(&options(2), &mut executor, &mut ()).expect("runs");
    for sample in &report.measured("container").expect("measured").samples {
        assert!(sample.milestones.iter().all(|m| m.at_ms >= 0.0 && m.at_ms <= sample.start_ms));
        assert!(sample.milestones.iter().all(|m| m.event != "exited"));
    }
}
