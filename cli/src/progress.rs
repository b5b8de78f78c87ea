//! Progress of long work: a bar on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A bar of bytes that appears when the work takes longer than a moment.
pub(crate) fn bytes_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style("{msg:30!} {wide_bar} {bytes}/{total_bytes}"));
    bar
}

/// A line that says what is being done, with a bar of steps once their number is known.
pub(crate) fn steps_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style("{spinner} [{elapsed_precise}] {wide_bar} {pos}/{len} {msg:48}"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A line that says what is waited for, and for how long; gone when dropped.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let bar = bar.with_finish(ProgressFinish::AndClear);
    bar.set_style(style("{spinner} {msg} [{elapsed}]"));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is ours")
}
