//! What an experiment is asked to be: the subject of the comparison, the limits, how many samples, and by which sign
//! an app counts as ready.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::subject::{Runtime, Subject};

/// Everything [`crate::run`] needs to know. Start from [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `carve` binary to run.
    pub carve: PathBuf,
    /// `--root` for every `carve` that is run; `None` leaves its default.
    pub root: Option<PathBuf>,
    /// The image, as one writes it on the command line.
    pub image: String,
    /// The command and its arguments; empty for the image's own.
    pub command: Vec<String>,
    /// What counts as ready.
    pub ready: Ready,
    /// The models and peers to compare, each once.
    pub runtimes: Vec<Runtime>,
    /// Counted samples of each subject.
    pub samples: usize,
    /// Starts of each subject before the first counted one.
    pub warm_up: usize,
    /// No sample starts after this much time, except that every subject is sampled once.
    pub budget: Option<Duration>,
    /// How long one instance may take until it is ready.
    pub ready_timeout: Duration,
    /// Pause between two attempts of the HTTP probe: the resolution of the start time.
    pub probe_period: Duration,
    /// Where the order of the samples and all resampling come from.
    pub seed: u64,
    /// `--memory`, as bytes with an optional suffix `k`, `m` or `g`.
    pub memory: Option<String>,
    /// `--cpus`.
    pub cpus: Option<f64>,
    /// The host CPUs every subject is confined to.
    pub pin: Option<Vec<usize>>,
    /// Whether instances get a network; without it they are run with `--network none`.
    pub network: bool,
    /// Where the report is saved, atomically and after every sample, so that an interrupted run leaves its samples.
    pub save: Option<PathBuf>,
}

impl Options {
    /// A container and a VM of `image`, compared by 30 samples each of their first correct reply on port 80.
    #[must_use]
    pub fn new(carve: PathBuf, image: &str) -> Self {
        Self {
            carve,
            root: None,
            image: image.to_owned(),
            command: Vec::new(),
            ready: Ready::Http { port: 80, path: "/".to_owned() },
            runtimes: vec![Runtime::Container, Runtime::Vm],
            samples: 30,
            warm_up: 1,
            budget: None,
            ready_timeout: Duration::from_secs(180),
            probe_period: Duration::from_millis(2),
            seed: 1,
            memory: None,
            cpus: None,
            pin: None,
            network: true,
            save: None,
        }
    }

    /// Says what in these options cannot be measured.
    ///
    /// # Errors
    /// One [`OptionsError`] for the first thing found.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.runtimes.is_empty() {
            return Err(OptionsError::NothingToCompare);
        }
        if let Some(twice) = self.runtimes.iter().enumerate().find(|(i, r)| self.runtimes[..*i].contains(r)) {
            return Err(OptionsError::Twice { runtime: *twice.1 });
        }
        if self.samples == 0 {
            return Err(OptionsError::NoSamples);
        }
        if let Some(memory) = &self.memory {
            memory_bytes(memory).ok_or_else(|| OptionsError::Memory { given: memory.clone() })?;
        }
        if matches!(self.ready, Ready::Http { .. }) && !self.network {
            return Err(OptionsError::HttpWithoutNetwork);
        }
        if self.runtimes.contains(&Runtime::Crun) {
            if self.network {
                return Err(OptionsError::CrunWithNetwork);
            }
            if self.command.is_empty() {
                return Err(OptionsError::CrunWithoutCommand);
            }
        }
        Ok(())
    }

    /// The subjects, in the order given.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        self.runtimes.iter().map(|runtime| Subject::of(*runtime)).collect()
    }

    /// Whether every subject runs where the unified cgroup mount is hidden, which crun needs on hybrid hosts.
    #[must_use]
    pub fn hides_unified_cgroup(&self) -> bool {
        self.runtimes.contains(&Runtime::Crun)
    }
}

/// By what sign an app counts as ready; the same for every subject of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// An HTTP 200 with the same body that every other subject answers.
    Http {
        /// The app's port.
        port: u16,
        /// The path asked for, from `/`.
        path: String,
    },
    /// The first line on standard output.
    Output,
}

impl FromStr for Ready {
    type Err = OptionsError;

    /// Understands `output`, `http:PORT` and `http:PORT/PATH`.
    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let bad = || OptionsError::Ready { given: text.to_owned() };
        if text == "output" {
            return Ok(Self::Output);
        }
        let rest = text.strip_prefix("http:").ok_or_else(bad)?;
        let (port, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad());
        }
        Ok(Self::Http { port, path: format!("/{path}") })
    }
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { port, path } => write!(f, "http:{port}{path}"),
            Self::Output => f.write_str("output"),
        }
    }
}

/// Bytes in `128m` and the like; `None` when it is no amount or too large.
pub(crate) fn memory_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches('b');
    let (digits, unit) = match digits.chars().last()? {
        'k' => (&digits[..digits.len() - 1], 1 << 10),
        'm' => (&digits[..digits.len() - 1], 1 << 20),
        'g' => (&digits[..digits.len() - 1], 1 << 30),
        _ => (digits, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// What is wrong with the options.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OptionsError {
    /// No runtime was named.
    #[error("nothing to compare: name at least one of container, vm, crun")]
    NothingToCompare,
    /// A runtime was named more than once.
    #[error("{runtime} is named twice; the control of a runtime against itself is always made, name it once")]
    Twice {
        /// The runtime.
        runtime: Runtime,
    },
    /// Zero samples.
    #[error("no samples asked for: 30 are enough for a median, 100 for a 99th percentile")]
    NoSamples,
    /// Not an amount of memory.
    #[error("`{given}` is no amount of memory: write bytes, or a number with k, m or g, like 128m")]
    Memory {
        /// What was given.
        given: String,
    },
    /// Not a ready condition.
    #[error("`{given}` is no ready condition: write `output` or `http:PORT/PATH`, like http:80/")]
    Ready {
        /// What was given.
        given: String,
    },
    /// HTTP asked for with the network off.
    #[error("an HTTP reply needs a network: use `output` as the ready condition, or leave the network on")]
    HttpWithoutNetwork,
    /// crun has no network of its own.
    #[error(
        "crun sets up no network: compare with it by `output` as the ready condition and without a network"
    )]
    CrunWithNetwork,
    /// crun reads no image config.
    #[error("crun knows no images: give the command to run when comparing with it")]
    CrunWithoutCommand,
    /// Not the name of a runtime.
    #[error("`{given}` is no runtime: use container, vm or crun")]
    Runtime {
        /// What was given.
        given: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ready_conditions() {
        let http = |port, path: &str| Some(Ready::Http { port, path: path.to_owned() });
        for (text, expected) in [
            ("output", Some(Ready::Output)),
            ("http:80/", http(80, "/")),
            ("http:8080", http(8080, "/")),
            ("http:80/a/b?c=d", http(80, "/a/b?c=d")),
            ("http:0/", None),
            ("http:80/a b", None),
            ("http:/x", None),
            ("tcp:80", None),
        ] {
            assert_eq!(text.parse::<Ready>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn reads_amounts_of_memory() {
        for (text, expected) in [
            ("128m", Some(134_217_728)),
            ("1G", Some(1 << 30)),
            ("64mb", Some(64 << 20)),
            ("4096", Some(4096)),
            ("", None),
            ("m", None),
            ("-1m", None),
            ("99999999999999999999g", None),
        ] {
            assert_eq!(memory_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_measured() {
        let base = || Options::new("carve".into(), "demo");
        assert_eq!(base().check(), Ok(()));
        for (options, expected) in [
            (Options { runtimes: vec![], ..base() }, OptionsError::NothingToCompare),
            (
                Options { runtimes: vec![Runtime::Vm, Runtime::Vm], ..base() },
                OptionsError::Twice { runtime: Runtime::Vm },
            ),
            (Options { samples: 0, ..base() }, OptionsError::NoSamples),
            (
                Options { memory: Some("lots".into()), ..base() },
                OptionsError::Memory { given: "lots".into() },
            ),
            (Options { network: false, ..base() }, OptionsError::HttpWithoutNetwork),
            (Options { runtimes: vec![Runtime::Crun], ..base() }, OptionsError::CrunWithNetwork),
            (
                Options { runtimes: vec![Runtime::Crun], network: false, ready: Ready::Output, ..base() },
                OptionsError::CrunWithoutCommand,
            ),
        ] {
            assert_eq!(options.check(), Err(expected));
        }
    }
}
