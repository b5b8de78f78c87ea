//! What the compilation tells whoever waits for it: a bar on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::say;

/// About how many objects a build compiles; only the bar's scale depends on it.
const USUAL_OBJECTS: u64 = 1410;
/// How often a log without a terminal gets a line.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// The progress of one compilation.
pub(super) struct Progress {
    bar: ProgressBar,
    built: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        let bar = ProgressBar::with_draw_target(Some(USUAL_OBJECTS), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "kernel: {bar:30} {pos} of about {len} objects, {elapsed} {wide_msg}",
        );
        bar.set_style(style.expect("the template is a constant of ours"));
        if bar.is_hidden() {
            say("kernel", "compiling; the first build takes 4 to 5 minutes on 2 CPUs");
        }
        let now = Instant::now();
        Self { bar, built: 0, started: now, last_line: now }
    }

    /// Counts one object file.
    pub(super) fn object_built(&mut self, object: &str) {
        self.built += 1;
        self.bar.set_length(USUAL_OBJECTS.max(self.built));
        self.bar.set_position(self.built);
        self.bar.set_message(object.to_owned());
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            say("kernel", &format!("{} of about {USUAL_OBJECTS} objects, {seconds} s", self.built));
        }
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
        say("kernel", &format!("{} objects compiled in {} s", self.built, self.started.elapsed().as_secs()));
    }
}
