//! Whether two series could be one: the rank-sum test of Wilcoxon, Mann and Whitney, with its p-value from random
//! relabellings rather than from a normal approximation, so that ties and few samples are handled as they are.

use super::generator::Generator;

/// How many relabellings are drawn; the least p-value is one in this many and one.
pub const RELABELLINGS: usize = 10_000;

/// The two-sided p-value of "both series come from one distribution"; `None` when a series is empty.
#[must_use]
pub fn p_value(a: &[f64], b: &[f64], seed: u64) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mut ranks = mid_ranks(a, b);
    let expected = a.len() as f64 * (a.len() + b.len() + 1) as f64 / 2.0;
    let distance = |ranks: &[f64]| (ranks[..a.len()].iter().sum::<f64>() - expected).abs();
    let observed = distance(&ranks);
    let mut generator = Generator::new(seed);
    let mut as_far = 0_usize;
    for _ in 0..RELABELLINGS {
        generator.shuffle(&mut ranks);
        // Ranks are multiples of one half, so their sums are exact and may be compared.
        if distance(&ranks) >= observed {
            as_far += 1;
        }
    }
    Some((as_far + 1) as f64 / (RELABELLINGS + 1) as f64)
}

/// The ranks of `a` then of `b` in the joint order, from 1; equal values share the mean of their ranks.
fn mid_ranks(a: &[f64], b: &[f64]) -> Vec<f64> {
    let values: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let ties = order[first..].iter().take_while(|&&i| values[i] == values[order[first]]).count();
        for &i in &order[first..first + ties] {
            ranks[i] = first as f64 + (ties + 1) as f64 / 2.0;
        }
        first += ties;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(mid_ranks(&[5.0, 1.0], &[5.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
    }

    #[test]
    fn matches_the_exact_distribution_for_few_values() {
        // All of one side below the other: 2 of C(6,3) = 20 labellings, and 2 of C(10,5) = 252.
        for (a, b, exact) in [
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..], 0.1),
            (&[1.0, 2.0, 3.0, 4.0, 5.0][..], &[6.0, 7.0, 8.0, 9.0, 10.0][..], 2.0 / 252.0),
            // Rank sum of a is 11 where 13.5 is expected; 32 of C(8,3) = 56. R: wilcox.test(c(1,4,6), c(2,3,5,7,8), exact=TRUE)
            (&[1.0, 4.0, 6.0][..], &[2.0, 3.0, 5.0, 7.0, 8.0][..], 0.571_428),
        ] {
            let p = p_value(a, b, 5).expect("both have values");
            assert!((p - exact).abs() < 0.015, "{a:?} {b:?}: {p}, exactly {exact}");
        }
    }

    #[test]
    fn the_same_series_twice_shows_nothing() {
        let series = [3.0, 1.0, 4.0, 1.0, 5.0];
        assert_eq!(p_value(&series, &series, 1), Some(1.0));
    }

    #[test]
    fn is_seldom_small_by_chance() {
        let mut generator = Generator::new(11);
        let mut draw = || (0..12).map(|_| generator.below(1000) as f64).collect::<Vec<_>>();
        let small = (0..40).filter(|seed| p_value(&draw(), &draw(), *seed).expect("some") < 0.05).count();
        assert!(small <= 7, "{small} of 40 below 0.05");
    }
}
