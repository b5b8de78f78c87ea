//! What the interpreter of the software engine has done for one guest.

use std::time::Duration;

use serde::Serialize;

/// Counts of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Instructions interpreted in ring 0.
    pub kernel_instructions: u64,
    /// Instructions interpreted in ring 3; those that ran natively are not counted.
    pub user_instructions: u64,
    /// Runs of decoded instructions, up to the next branch.
    pub blocks: u64,
    /// Those that had to be decoded.
    pub decoded: u64,
    /// Times that code was forgotten because something wrote to its page.
    pub rewritten: u64,
    /// Accesses to memory, string instructions counted as one.
    pub accesses: u64,
    /// Accesses whose address was not in the TLB, so that page tables were walked.
    pub walks: u64,
    /// Times that ring 3 was entered natively.
    pub native_entries: u64,
    /// Time spent interpreting and in devices.
    pub interpreting: Duration,
    /// Time spent in ring 3 natively, entering and leaving included.
    pub native: Duration,
    /// Time spent waiting for an interrupt.
    pub halted: Duration,
}

impl Counters {
    /// Instructions interpreted.
    pub fn instructions(&self) -> u64 {
        self.kernel_instructions + self.user_instructions
    }

    /// Millions of instructions interpreted in a second; `None` if there were none.
    pub fn speed(&self) -> Option<f64> {
        ratio(self.instructions(), self.interpreting.as_nanos()).map(|per_nanosecond| per_nanosecond * 1e3)
    }

    /// Share of blocks that had been decoded before.
    pub fn decode_hits(&self) -> Option<f64> {
        ratio(self.decoded, self.blocks.into()).map(|misses| 1.0 - misses)
    }

    /// Share of memory accesses that the TLB knew, instruction fetches counted as misses only.
    pub fn tlb_hits(&self) -> Option<f64> {
        ratio(self.walks, self.accesses.into()).map(|misses| 1.0 - misses)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn ratio(part: u64, whole: u128) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Where a guest's kernel spent its instructions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Totals.
    pub counters: Counters,
    /// Instructions of ring 0 by the address of the block that they are in; empty if nobody asked for it.
    pub kernel: Vec<(u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_the_counts() {
        let counters = Counters {
            kernel_instructions: 900,
            user_instructions: 100,
            blocks: 200,
            decoded: 20,
            accesses: 400,
            walks: 4,
            interpreting: Duration::from_micros(10),
            ..Counters::default()
        };
        assert_eq!(counters.speed(), Some(100.0));
        assert_eq!(counters.decode_hits(), Some(0.9));
        assert_eq!(counters.tlb_hits(), Some(0.99));
        assert_eq!(Counters::default().speed(), None);
    }
}
