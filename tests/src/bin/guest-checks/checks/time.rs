//! Time passes as it does on the host, and sleeps end in time.

use std::io::Write;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Outcome, at, expect};
use crate::sys::mapping::Mapping;
use crate::sys::process::fork;

/// What the host measures beside us.
const MEASURED: Duration = Duration::from_secs(2);

/// The clock is read from the guest's memory (vDSO) all the time.
pub(crate) fn passes_as_on_the_host_while_busy() -> Outcome {
    measured("busy", || {
        let start = Instant::now();
        while start.elapsed() < MEASURED {
            std::hint::spin_loop();
        }
    })
}

/// The CPU is halted.
pub(crate) fn passes_as_on_the_host_while_asleep() -> Outcome {
    measured("idle", || sleep(MEASURED))
}

/// Says to the host when it begins and how long it took; the host compares with its own clock.
fn measured(name: &str, work: impl FnOnce()) -> Outcome {
    let mut out = std::io::stdout();
    let mut say =
        |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(at("write"));
    say(format!("guest-checks: clock {name} begins\n"))?;
    let start = Instant::now();
    work();
    say(format!("guest-checks: clock {name} ends after {} us\n", start.elapsed().as_micros()))
}

/// Two clocks, read in turn by a process that others interrupt.
pub(crate) fn never_goes_back() -> Outcome {
    let other = fork(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            std::thread::yield_now();
        }
        0
    });
    let start = Instant::now();
    let (mut last, mut reads) = (start, 0u64);
    let wall = std::time::SystemTime::now();
    while last - start < Duration::from_millis(500) {
        let now = Instant::now();
        expect(now >= last, || format!("{:?} back after {reads} reads", last - now))?;
        last = now;
        reads += 1;
    }
    let wall = wall.elapsed().map_err(at("the wall clock went back"))?;
    other.map_err(at("fork"))?.wait().map_err(at("wait"))?;
    let apart = wall.abs_diff(last - start);
    expect(apart < Duration::from_millis(50), || format!("the wall clock is {apart:?} apart from the other"))
}

/// Two processes count as fast as they can.
pub(crate) fn is_shared_by_two_busy_processes() -> Outcome {
    let page = Mapping::shared(1).map_err(at("mmap"))?;
    let count = |offset: usize| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            page.word(offset).fetch_add(1, SeqCst);
        }
        0
    };
    let one = fork(|| count(0)).map_err(at("fork"))?;
    let other = fork(|| count(8)).map_err(at("fork"))?;
    one.wait().map_err(at("wait"))?;
    other.wait().map_err(at("wait"))?;
    let (one, other) = (page.word(0).load(SeqCst), page.word(8).load(SeqCst));
    expect(one < 4 * other && other < 4 * one, || format!("{one} and {other} rounds in the same time"))
}

/// Sleeps of several lengths: none too short, and the best of ten hardly too long.
pub(crate) fn sleeps_are_as_long_as_asked_for() -> Outcome {
    for wanted_ms in [1, 5, 20, 100] {
        let wanted = Duration::from_millis(wanted_ms);
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let start = Instant::now();
            sleep(wanted);
            best = best.min(start.elapsed());
        }
        expect((wanted..wanted + Duration::from_millis(5)).contains(&best), || {
            format!("{best:?} instead of {wanted:?}")
        })?;
    }
    Ok(())
}
