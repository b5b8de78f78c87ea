//! What a verb tells whoever waits for it: lines anywhere, a spinner for silent steps on a terminal.
#![expect(clippy::print_stderr, reason = "a developer's verb reports its progress")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Steps quicker than this are not worth a time.
const INSTANT: Duration = Duration::from_millis(500);

/// What became of a step.
pub(crate) enum Outcome {
    /// Something was done.
    Done,
    /// It had been done before.
    Cached,
}

/// Says one line, at once.
pub(crate) fn say(who: &str, text: &str) {
    eprintln!("{who}: {text}");
}

/// Runs one step of set-up that prints for itself, between two lines.
///
/// # Errors
/// The step's own, with its name.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    say("setup", &format!("{name} …"));
    let started = Instant::now();
    let outcome = work().with_context(|| format!("setup of the {name} failed"))?;
    say("setup", &format!("{name} … {}", ending(&outcome, started.elapsed())));
    Ok(())
}

fn ending(outcome: &Outcome, took: Duration) -> String {
    let word = match outcome {
        Outcome::Done => "done",
        Outcome::Cached => "cached",
    };
    if took < INSTANT { word.to_owned() } else { format!("{word} in {:.1} s", took.as_secs_f64()) }
}

/// Runs something silent behind a spinner, where there is a terminal to show it.
pub(crate) fn spin<T>(text: &str, work: impl FnOnce() -> T) -> T {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    bar.set_style(style.expect("the template is a constant of ours"));
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    let result = work();
    bar.finish_and_clear();
    result
}

/// A bar of `count` steps, where there is a terminal to show it.
pub(crate) fn bar(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count.try_into().unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {wide_bar} {pos}/{len} {msg:48}");
    bar.set_style(style.expect("the template is a constant of ours"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_when_it_took_one() {
        assert_eq!(ending(&Outcome::Cached, Duration::from_millis(3)), "cached");
        assert_eq!(ending(&Outcome::Done, Duration::from_millis(12_340)), "done in 12.3 s");
    }
}
