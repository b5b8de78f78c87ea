//! The order of the runs: all of a round's in random order, round after round, so that whatever disturbs the host
//! disturbs all engines alike. A seed gives the same order again.

use super::engine::Engine;
use super::workload::Workload;

/// A run to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) round: u32,
    pub(crate) engine: Engine,
    pub(crate) workload: Workload,
}

/// All runs of `rounds` rounds.
pub(crate) fn of(rounds: u32, engines: &[Engine], seed: u64) -> Vec<Step> {
    let mut generator = SplitMix64(seed);
    let mut steps = Vec::new();
    for round in 1..=rounds {
        let first = steps.len();
        for workload in Workload::ALL {
            steps.extend(engines.iter().map(|&engine| Step { round, engine, workload }));
        }
        generator.shuffle(&mut steps[first..]);
    }
    steps
}

/// Steele, Lea and Flood, OOPSLA 2014.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let wide = u128::from(self.next()) * (last as u128 + 1);
            items.swap(last, usize::try_from(wide >> 64).expect("below the number of items"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Engine; 2] = [Engine::Soft, Engine::Tcg];

    #[test]
    fn every_round_has_every_run_once() {
        let steps = of(3, &BOTH, 7);
        for round in 1..=3 {
            for engine in BOTH {
                for workload in Workload::ALL {
                    let wanted = Step { round, engine, workload };
                    assert_eq!(steps.iter().filter(|&&step| step == wanted).count(), 1, "{wanted:?}");
                }
            }
        }
        assert!(steps.is_sorted_by_key(|step| step.round));
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(of(2, &BOTH, 1), of(2, &BOTH, 1));
        assert_ne!(of(2, &BOTH, 1), of(2, &BOTH, 2));
    }
}
