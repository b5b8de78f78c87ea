//! The order of an experiment: how many samples of each subject fit in the time there is, and in which order they are
//! taken. Pure functions of their arguments and a seed.

use std::time::Duration;

use crate::statistics::generator::Generator;

/// The order in which subjects are sampled, as indices into `counts`, `counts[i]` times the subject `i`.
///
/// The samples are dealt out in rounds, each subject spread evenly over them. Every other round is the mirror image of
/// the one before (A B then B A), so that a drift of the host falls on all alike; within a pair of rounds the order is
/// random.
#[must_use]
pub fn order(counts: &[usize], seed: u64) -> Vec<usize> {
    let Some(rounds) = counts.iter().copied().filter(|count| *count > 0).min() else { return Vec::new() };
    let mut generator = Generator::new(seed);
    let mut order = Vec::with_capacity(counts.iter().sum());
    let mut previous: Vec<usize> = Vec::new();
    for round in 0..rounds {
        let share = |count: usize| count * (round + 1) / rounds - count * round / rounds;
        let mut members: Vec<usize> =
            counts.iter().enumerate().flat_map(|(i, &count)| vec![i; share(count)]).collect();
        let mut mirrored = previous.clone();
        mirrored.reverse();
        if round % 2 == 1 && same_members(&mirrored, &members) {
            members = mirrored;
        } else {
            generator.shuffle(&mut members);
        }
        order.extend(&members);
        previous = members;
    }
    order
}

fn same_members(a: &[usize], b: &[usize]) -> bool {
    let ordered = |items: &[usize]| {
        let mut items = items.to_vec();
        items.sort_unstable();
        items
    };
    ordered(a) == ordered(b)
}

/// How many samples of each subject fit in `budget`, given what one of each takes: `wanted` where possible, and where
/// not, the same share of time for each subject that does not fit. Never less than 1.
#[must_use]
pub fn fit(wanted: usize, each: &[Duration], budget: Option<Duration>) -> Vec<usize> {
    let Some(budget) = budget else { return vec![wanted; each.len()] };
    let mut by_cost: Vec<usize> = (0..each.len()).collect();
    by_cost.sort_unstable_by_key(|&i| each[i]);
    let mut counts = vec![wanted; each.len()];
    let mut left = budget.as_nanos();
    for (done, &i) in by_cost.iter().enumerate() {
        let share = left / (each.len() - done) as u128;
        let affordable = share.checked_div(each[i].as_nanos()).unwrap_or(u128::MAX);
        counts[i] = usize::try_from(affordable).unwrap_or(usize::MAX).clamp(1, wanted.max(1));
        left = left.saturating_sub(each[i].as_nanos() * counts[i] as u128);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_second_round_mirrors_the_one_before() {
        let order = order(&[10, 10, 10], 4);
        for pair in order.chunks(6) {
            let mirrored: Vec<usize> = pair[3..].iter().rev().copied().collect();
            assert_eq!(pair[..3], mirrored[..]);
        }
    }

    #[test]
    fn a_seed_means_one_order_for_ever() {
        assert_eq!(order(&[4, 4], 1), [0, 1, 1, 0, 0, 1, 1, 0]);
        assert_ne!(order(&[20, 20], 1), order(&[20, 20], 2));
        assert!(order(&[], 1).is_empty() && order(&[0, 0], 1).is_empty());
    }

    #[test]
    fn a_subject_with_few_samples_is_spread_over_the_whole_run() {
        let order = order(&[30, 3], 9);
        for third in order.chunks(11) {
            assert_eq!(third.iter().filter(|i| **i == 1).count(), 1, "{order:?}");
        }
    }

    #[test]
    fn a_budget_takes_samples_from_the_slow_subject_only() {
        let each = [Duration::from_millis(100), Duration::from_secs(16), Duration::from_millis(100)];
        assert_eq!(fit(30, &each, None), [30, 30, 30]);
        assert_eq!(fit(30, &each, Some(Duration::from_secs(3600))), [30, 30, 30]);
        // 180 s less twice 3 s for the quick ones leaves 174 s.
        assert_eq!(fit(30, &each, Some(Duration::from_secs(180))), [30, 10, 30]);
        assert_eq!(fit(30, &each, Some(Duration::ZERO)), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn holds_each_subject_as_often_as_asked(counts in prop::collection::vec(0..40usize, 0..5), seed: u64) {
            let order = order(&counts, seed);
            for (i, count) in counts.iter().enumerate() {
                prop_assert_eq!(order.iter().filter(|j| **j == i).count(), *count);
            }
        }

        #[test]
        fn stays_within_the_budget_unless_one_sample_each_exceeds_it(
            ms in prop::collection::vec(1..5000u64, 1..5), wanted in 1..50usize, budget in 0..200_000u64,
        ) {
            let each: Vec<Duration> = ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
            let counts = fit(wanted, &each, Some(Duration::from_millis(budget)));
            let total: u64 = counts.iter().zip(&ms).map(|(count, ms)| *count as u64 * ms).sum();
            prop_assert!(total <= budget || counts.contains(&1));
            prop_assert!(counts.iter().all(|count| (1..=wanted).contains(count)));
        }
    }
}
