//! The init of a guest that examines its machine: what only programs on a booted Linux can see of a VMM.
//!
//! It runs the checks named on the kernel's command line (after `--`), each in a process of its own, says on the console
//! how each went, and ends as it was told:
//!
//! ```text
//! guest-checks: CHECK ok | guest-checks: CHECK FAILED: WHY …, then guest-checks: done
//! ```
//!
//! [`checks`] holds what is checked, [`sys`] what std does not do for a program. `tests/tests/guest.rs` is the host's side.

#![expect(clippy::print_stdout, reason = "the console is how it reports")]

mod checks;
mod ending;
mod sys;

use std::process::ExitCode;

use sys::process;

/// How long one check may take, in seconds.
const PATIENCE_S: u32 = 120;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Started again by a check of starting programs.
    if let [word, value] = words.as_slice()
        && word == checks::programs::AGAIN
    {
        return checks::programs::answer(value);
    }
    if std::process::id() != 1 {
        println!("guest-checks is to be the init of a guest; on this machine it would do harm");
        return ExitCode::FAILURE;
    }
    for (kind, at) in [("proc", "/proc"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        if let Err(error) = process::mount(kind, at) {
            println!("guest-checks: mount {at} FAILED: {error}");
        }
    }
    let (endings, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| ending::is_one(word));
    for name in names {
        report(name);
    }
    println!("guest-checks: done");
    let ending = endings.first().map_or("poweroff", |word| word.as_str());
    if let Err(error) = ending::end(ending) {
        println!("guest-checks: {ending} FAILED: {error}");
    }
    ExitCode::FAILURE
}

/// Runs a check in a process of its own.
fn report(name: &str) {
    let Some(check) = checks::find(name) else {
        println!("guest-checks: {name} FAILED: there is no such check");
        return;
    };
    let outcome = process::in_child(|| {
        process::alarm(PATIENCE_S);
        match check() {
            Ok(()) => 0,
            Err(why) => {
                println!("guest-checks: {name} FAILED: {why}");
                1
            }
        }
    });
    match outcome {
        Ok(process::Ended::Exited(0)) => println!("guest-checks: {name} ok"),
        Ok(process::Ended::Exited(1)) => {}
        Ok(ended) => println!("guest-checks: {name} FAILED: it ended with {ended:?}"),
        Err(error) => println!("guest-checks: {name} FAILED: {error}"),
    }
}
