//! What the interpreter counts while the guest boots: how fast it is, and how well its caches do.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::engine::Files;
use super::workload::Workload;
use crate::command::{capture, line};

/// Millions of instructions a second that the interpreter has to reach on the way to init and back.
const LEAST_SPEED: f64 = 50.0;

/// The interpreter's own figures for one boot.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Interpreter {
    /// Instructions interpreted.
    pub(crate) instructions: u64,
    /// Millions of them in a second of interpreting.
    pub(crate) million_per_s: f64,
    /// Share of the runs of instructions that had been decoded before.
    pub(crate) decode_hits: f64,
    /// Share of the memory accesses whose translation was known.
    pub(crate) tlb_hits: f64,
}

/// What `carve vm profile --json` prints, as far as it is needed here.
#[derive(Deserialize)]
struct Profile {
    kernel_instructions: u64,
    user_instructions: u64,
    million_instructions_per_second: f64,
    decode_hits: f64,
    tlb_hits: f64,
}

/// Boots the guest `times` times, counting; the figures are those of the boot whose speed is the median.
///
/// # Errors
/// The command's own, or output that is not what it should be.
pub(crate) fn counted(files: &Files, times: u32) -> Result<Interpreter> {
    let mut boots = (0..times).map(|_| boot(files)).collect::<Result<Vec<_>>>()?;
    boots.sort_unstable_by(|a, b| a.million_per_s.total_cmp(&b.million_per_s));
    let middle = boots.len() / 2;
    boots.into_iter().nth(middle).context("the guest was not booted")
}

fn boot(files: &Files) -> Result<Interpreter> {
    let mut command = files.profile(Workload::Boot);
    let output = capture(&mut command)?;
    if !output.status.success() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}):\n{}", line(&command), output.status, complaints.trim());
    }
    parse(&output.stdout).with_context(|| format!("cannot understand the output of {}", line(&command)))
}

fn parse(json: &[u8]) -> Result<Interpreter> {
    // Rates are null when nothing was interpreted.
    let profile: Profile = serde_json::from_slice(json)?;
    Ok(Interpreter {
        instructions: profile.kernel_instructions.saturating_add(profile.user_instructions),
        million_per_s: profile.million_instructions_per_second,
        decode_hits: profile.decode_hits,
        tlb_hits: profile.tlb_hits,
    })
}

impl Interpreter {
    /// Whether its speed is within the limit.
    pub(crate) fn is_fast_enough(&self) -> bool {
        self.million_per_s >= LEAST_SPEED
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the interpreter during a boot: {:.1} million instructions at {:.0} million/s (limit {LEAST_SPEED:.0}: {}); \
             {:.2} % decoded before, {:.2} % of addresses in the TLB",
            self.instructions as f64 / 1e6,
            self.million_per_s,
            if self.is_fast_enough() { "yes" } else { "NO" },
            self.decode_hits * 100.0,
            self.tlb_hits * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"end": "reset", "kernel_instructions": 9000000, "user_instructions": 1000000,
        "million_instructions_per_second": 40.0, "blocks": 200, "decode_hits": 0.9, "tlb_hits": 0.99,
        "symbols": []}"#;

    #[test]
    fn a_profile_becomes_a_line() {
        let figures = parse(JSON.as_bytes()).expect("understood");
        assert_eq!(
            figures.to_string(),
            "the interpreter during a boot: 10.0 million instructions at 40 million/s (limit 50: NO); \
             90.00 % decoded before, 99.00 % of addresses in the TLB"
        );
        assert!(!figures.is_fast_enough());
    }

    #[test]
    fn a_profile_of_nothing_is_an_error() {
        let nothing = JSON.replace("40.0", "null");
        assert!(parse(nothing.as_bytes()).is_err());
        assert!(parse(b"{}").is_err());
    }
}
