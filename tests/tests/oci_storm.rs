//! Two hundred containers at once, and commands for them from several threads in no order, some of them killed: none is
//! lost, none is left, nothing that they were made of either.

#![expect(clippy::print_stdout, reason = "the seed and the times are part of the output")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{Host, wait_for};

const CONTAINERS: usize = 200;

/// How many threads give commands.
const THREADS: usize = 6;

/// How many commands each of them gives before all containers are deleted.
const COMMANDS: usize = 120;

/// How long all of it may take, on two processors that others use as well.
const PATIENCE: Duration = Duration::from_secs(300);

/// Numbers that look random, the same ones each time (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

fn seed() -> u64 {
    let given = std::env::var("CARVE_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(0x5eed_0f5a_11d5);
    println!("CARVE_STORM_SEED={seed}");
    seed
}

/// An id that no other run of this test uses.
fn id(number: usize) -> String {
    format!("storm-{}-{number}", std::process::id())
}

/// `carve oci ARGS…`, which nobody reads.
fn silent(host: &Host, args: &[&str]) -> Command {
    let mut command = host.oci_command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Creates and starts some of the containers, in three ways.
fn start_some(host: &Host, bundle: &str, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let id = id(number);
        let group = |args: &[&str]| {
            let status = silent(host, args).status().expect("carve runs");
            assert!(status.success(), "{args:?}: {status}");
        };
        if number.is_multiple_of(2) {
            group(&["create", "--bundle", bundle, &id]);
            if !number.is_multiple_of(8) {
                group(&["start", &id]);
            }
        } else {
            group(&["run", "--detach", "--bundle", bundle, &id]);
        }
    }
}

/// One command for any of the containers, killed before its end now and then.
fn command(host: &Host, random: &mut Random) -> (String, Option<ExitStatus>) {
    let id = id(random.below(CONTAINERS));
    let args: &[&str] = match random.below(12) {
        0 | 1 => &["kill", &id, "KILL"],
        2 => &["kill", "--all", &id, "TERM"],
        3 | 4 => &["exec", &id, "true"],
        5 => &["exec", "--detach", &id, "sleep", "1000"],
        6 => &["state", &id],
        7 => &["delete", &id],
        8 => &["delete", "--force", &id],
        9 => &["start", &id],
        10 => &["ps", &id],
        _ => &["pause", &id],
    };
    let mut child = silent(host, args).spawn().expect("carve runs");
    if random.below(5) == 0 {
        thread::sleep(Duration::from_micros(random.below(15_000) as u64));
        kill_process(Pid::from_child(&child), Signal::KILL).expect("it is not waited for yet");
    }
    let status = wait_at_most(&mut child);
    if args[0] == "pause" {
        // Whatever became of it: an exec in a container that stands still waits for as long.
        let _maybe_not_paused = silent(host, &["resume", &id]).status().expect("carve runs");
    }
    (args.join(" "), status)
}

fn wait_at_most(child: &mut std::process::Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().expect("it is a child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("it is a child");
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// All containers, by status; `list` must succeed and complain of nothing.
fn listed(host: &Host) -> Vec<Value> {
    let output = host.oci(&["list", "--format", "json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a list")
}

/// What has ended, here or in a container, and was not waited for.
fn zombies() -> BTreeSet<String> {
    let ended = |pid: &String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("State:\tZ") && (status.contains("Name:\tsleep") || status.contains("Name:\tcarve"))
    };
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(ended).collect()
}

#[test]
fn none_of_two_hundred_containers_is_lost_in_a_storm_of_commands() {
    let Some(host) = Host::for_containers() else { return };
    let zombies_before = zombies();
    let began = Instant::now();
    let bundle = host.bundle("b", &["sleep", "1000"]).with(|config| {
        config["linux"]["cgroupsPath"] = Value::Null;
    });
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (host, bundle) = (&host, bundle.path());
            scope.spawn(move || start_some(host, bundle, (thread..CONTAINERS).step_by(THREADS)));
        }
    });
    let states = listed(&host);
    assert_eq!(states.len(), CONTAINERS);
    let created = states.iter().filter(|state| state["status"] == "created").count();
    let running = states.iter().filter(|state| state["status"] == "running").count();
    assert_eq!((created, running), (CONTAINERS / 8, CONTAINERS - CONTAINERS / 8));
    println!("{CONTAINERS} containers after {:?}", began.elapsed());

    let (over, lists, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let seed = seed();
    thread::scope(|scope| {
        let lister = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let states = listed(&host);
                assert!(states.len() <= CONTAINERS);
                lists.fetch_add(1, Ordering::Relaxed);
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (host, failed) = (&host, &failed);
                scope.spawn(move || {
                    let mut random = Random(seed + 1 + thread as u64);
                    for _ in 0..COMMANDS {
                        let (said, status) = command(host, &mut random);
                        let status = status.unwrap_or_else(|| panic!("{said} never ended"));
                        failed.fetch_add(usize::from(!status.success()), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        lister.join().expect("list never fails");
        ends.into_iter().for_each(|end| end.expect("each command ends"));
    });
    println!(
        "{} commands, {} of them killed or refused, {} lists after {:?}",
        THREADS * COMMANDS,
        failed.into_inner(),
        lists.into_inner(),
        began.elapsed()
    );

    let left: Vec<_> = listed(&host).iter().map(|state| state["id"].as_str().unwrap().to_owned()).collect();
    for id in &left {
        let _ = host.oci_ok(&["delete", "--force", id]);
    }
    assert!(listed(&host).is_empty());
    wait_for("no zombie is left", || zombies().is_subset(&zombies_before).then_some(()));
    println!("{} deleted after {:?}", left.len(), began.elapsed());
    assert!(began.elapsed() < PATIENCE);
}
