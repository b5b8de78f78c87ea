//! Created, running, stopped, deleted, and what happens when somebody dies in between.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use container::cgroup::{Cgroup, Hierarchy};
use container::{CreateOptions, ExitStatus, StartError};
use serde_json::json;

use crate::harness::{Bundle, Case, cgroup_parent, read_all};

pub(crate) const CASES: &[Case] = &[
    ("nothing_runs_before_start", nothing_runs_before_start),
    ("signals_reach_the_program", signals_reach_the_program),
    ("try_wait_does_not_wait", try_wait_does_not_wait),
    ("deleting_twice_and_while_running_is_fine", deleting_twice_and_while_running_is_fine),
    ("starting_twice_is_refused", starting_twice_is_refused),
    ("init_dies_with_a_killed_creator", init_dies_with_a_killed_creator),
    ("a_creator_killed_before_start_leaves_no_process", a_creator_killed_before_start_leaves_no_process),
    ("a_process_with_threads_is_refused", a_process_with_threads_is_refused),
    ("ten_can_run_at_once", ten_can_run_at_once),
];

fn nothing_runs_before_start() {
    let mut output = tempfile::tempfile().unwrap();
    let bundle = Bundle::new(&["echo", "ran"]);
    let mut container = bundle.create(&output).unwrap();
    let before = read_all(&mut output);
    let net = fs::read_link(format!("/proc/{}/ns/net", container.pid())).unwrap();
    container.start().unwrap();
    container.wait().unwrap();
    container.delete().unwrap();
    assert_eq!(before, "");
    assert_eq!(read_all(&mut output), "ran\n");
    assert_ne!(net, fs::read_link("/proc/self/ns/net").unwrap());
}

fn signals_reach_the_program() {
    let mut output = tempfile::tempfile().unwrap();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while true; do sleep 0.05; done";
    let bundle = Bundle::script(script);
    let mut container = bundle.create(&output).unwrap();
    container.start().unwrap();
    wait_until(|| read_all(&mut output).contains("ready"));
    container.kill(libc_sigterm()).unwrap();
    let status = container.wait().unwrap();
    let late = container.kill(libc_sigterm()).unwrap_err();
    container.delete().unwrap();
    assert_eq!(status, ExitStatus::Exited(3));
    assert_eq!(late.raw_os_error(), Some(rustix::io::Errno::SRCH.raw_os_error()));
}

fn libc_sigterm() -> i32 {
    rustix::process::Signal::TERM.as_raw()
}

fn try_wait_does_not_wait() {
    let output = tempfile::tempfile().unwrap();
    let bundle = Bundle::new(&["sleep", "60"]);
    let mut container = bundle.create(&output).unwrap();
    assert_eq!(container.try_wait().unwrap(), None);
    container.start().unwrap();
    assert_eq!(container.try_wait().unwrap(), None);
    container.kill(rustix::process::Signal::KILL.as_raw()).unwrap();
    assert_eq!(container.wait().unwrap(), ExitStatus::Signaled(9));
    assert_eq!(container.try_wait().unwrap().map(ExitStatus::code), Some(137));
    container.delete().unwrap();
}

fn deleting_twice_and_while_running_is_fine() {
    let output = tempfile::tempfile().unwrap();
    let bundle = Bundle::script("sleep 60 & sleep 60");
    let mut container = bundle.create(&output).unwrap();
    container.start().unwrap();
    container.delete().unwrap();
    container.delete().unwrap();
    assert!(!Path::new(&format!("/proc/{}", container.pid())).exists());
}

fn starting_twice_is_refused() {
    let output = tempfile::tempfile().unwrap();
    let bundle = Bundle::new(&["sleep", "60"]);
    let mut container = bundle.create(&output).unwrap();
    container.start().unwrap();
    let again = container.start().unwrap_err();
    container.delete().unwrap();
    assert!(matches!(again, StartError::Gone), "{again}");
}

fn init_dies_with_a_killed_creator() {
    creator_is_killed("start");
}

fn a_creator_killed_before_start_leaves_no_process() {
    creator_is_killed("create");
}

/// A helper makes a container, says its process id, and is killed; the container must die with it, and the next one
/// to come must be able to clear up.
fn creator_is_killed(how_far: &str) {
    let bundle = Bundle::new(&["sleep", "60"]);
    fs::write(bundle.dir.path().join("config.json"), bundle.config.to_string()).unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--helper", how_far, bundle.dir.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(helper.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let init = format!("/proc/{}", line.trim());
    assert!(Path::new(&init).exists(), "{line:?}");
    helper.kill().unwrap();
    helper.wait().unwrap();
    wait_until(|| !Path::new(&init).exists());
    let hierarchy = Hierarchy::detect(Path::new("/")).unwrap();
    Cgroup::open(&hierarchy, &cgroup_parent().join("helped")).unwrap().remove().unwrap();
}

fn a_process_with_threads_is_refused() {
    let bundle = Bundle::new(&["true"]);
    let output = tempfile::tempfile().unwrap();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let error = bundle.create(&output).unwrap_err().to_string();
    drop(done);
    thread.join().unwrap().unwrap_err();
    assert!(error.contains("this one has 2 threads"), "{error}");
    wait_until(|| fs::read_dir("/proc/self/task").unwrap().count() == 1);
}

fn ten_can_run_at_once() {
    let output = tempfile::tempfile().unwrap();
    let bundles: Vec<Bundle> = (0..10).map(|code| Bundle::script(&format!("exit {code}"))).collect();
    let mut containers: Vec<_> = bundles.iter().map(|bundle| bundle.create(&output).unwrap()).collect();
    containers.iter_mut().for_each(|container| container.start().unwrap());
    let codes: Vec<i32> = containers.iter_mut().map(|container| container.wait().unwrap().code()).collect();
    containers.iter_mut().for_each(|container| container.delete().unwrap());
    assert_eq!(codes, (0..10).collect::<Vec<_>>());
}

/// The helper process: creates the container in a bundle, and starts it if told to.
pub(crate) fn helper(args: &[String]) {
    let [how_far, dir] = args else { panic!("how far, and a bundle: {args:?}") };
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let options = CreateOptions::new([null(), null(), null()], cgroup_parent().join("helped"));
    let mut container =
        container::create(&container::Bundle::load(Path::new(dir)).unwrap(), "helped", options).unwrap();
    if how_far == "start" {
        container.start().unwrap();
    }
    println!("{}", json!(container.pid()));
    std::thread::sleep(Duration::from_secs(60));
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}
