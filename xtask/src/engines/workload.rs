//! What the guest is asked to do: one word and a number on its kernel's command line (`guest-images/engines/init`).

use serde::Serialize;

/// A workload. The counts make the work outweigh the boot, which is part of every run, without making QEMU's TCG take
/// more than ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Boot, say so, reset.
    Boot,
    /// A floating-point loop in busybox awk.
    Awk,
    /// busybox gzip of copies of busybox itself, 2 MB each.
    Gzip,
    /// getpid in a loop: the cheapest system call.
    Getpid,
    /// fork, exec of busybox `true`, wait.
    ForkExec,
}

impl Workload {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 5] = [Self::Boot, Self::Awk, Self::Gzip, Self::Getpid, Self::ForkExec];

    /// Its name for init.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Awk => "awk",
            Self::Gzip => "gzip",
            Self::Getpid => "getpid",
            Self::ForkExec => "fork-exec",
        }
    }

    /// How often init does it.
    pub(crate) fn count(self) -> u32 {
        match self {
            Self::Boot => 1,
            Self::Awk => 300_000,
            Self::Gzip => 6,
            Self::Getpid => 100_000,
            Self::ForkExec => 100,
        }
    }

    /// What the report calls it.
    pub(crate) fn title(self) -> String {
        let count = self.count();
        match self {
            Self::Boot => "boot to power-off".to_owned(),
            Self::Awk => format!("awk, floating point, {count} rounds"),
            Self::Gzip => format!("gzip of {} MB", 2 * count),
            Self::Getpid => format!("getpid, {count} times"),
            Self::ForkExec => format!("fork and exec, {count} times"),
        }
    }

    /// The share of TCG's time that the software engine may take, boot included (`docs/how-we-measure.md`).
    pub(crate) fn limit(self) -> f64 {
        match self {
            Self::Boot | Self::ForkExec => 0.7,
            Self::Awk => 0.15,
            Self::Gzip => 0.4,
            Self::Getpid => 1.0,
        }
    }

    /// What init has to be told.
    pub(crate) fn cmdline(self) -> String {
        format!("workload={} count={}", self.name(), self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_guest_knows_every_workload() {
        let recipe = workspace::root().join("guest-images/engines");
        let init = std::fs::read_to_string(recipe.join("init")).expect("there");
        for workload in Workload::ALL {
            let name = workload.name();
            let is_a_case = |line: &str| line.trim_end_matches(')').split(" | ").any(|case| case == name);
            assert!(init.lines().any(is_a_case), "init has no case {name}");
        }
    }
}
