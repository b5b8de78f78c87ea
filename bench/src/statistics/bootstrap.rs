//! Intervals by the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13): resample with replacement, take
//! the statistic, and read the middle 95 % of what comes out.

use serde::{Deserialize, Serialize};

use super::generator::Generator;
use super::quantile::{median, of_sorted, sorted};

/// How many times a series is resampled.
pub const RESAMPLES: usize = 4000;

/// The ends of a 95 % interval, in the unit of the statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The interval of a series' median; `None` for fewer than two values, which say nothing about their spread.
#[must_use]
pub fn median_interval(values: &[f64], seed: u64) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    let mut generator = Generator::new(seed);
    Some(middle_95((0..RESAMPLES).map(|_| resampled_median(values, &mut generator)).collect()))
}

/// The interval of `median(values) / median(reference)`, the two series resampled independently; `None` for fewer
/// than two values on either side or a reference that is not positive.
#[must_use]
pub fn ratio_interval(values: &[f64], reference: &[f64], seed: u64) -> Option<Interval> {
    if values.len() < 2 || reference.len() < 2 || reference.iter().any(|v| *v <= 0.0) {
        return None;
    }
    let mut generator = Generator::new(seed);
    let ratio = |_| resampled_median(values, &mut generator) / resampled_median(reference, &mut generator);
    Some(middle_95((0..RESAMPLES).map(ratio).collect()))
}

fn resampled_median(values: &[f64], generator: &mut Generator) -> f64 {
    let drawn: Vec<f64> = (0..values.len()).map(|_| values[generator.below(values.len())]).collect();
    median(&drawn).expect("as many values as were given, at least two")
}

fn middle_95(statistics: Vec<f64>) -> Interval {
    let ordered = sorted(&statistics);
    let at = |permille| of_sorted(&ordered, permille).expect("there are resamples");
    Interval { low: at(25), high: at(975) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(median_interval(&[4.0], 1), None);
        assert_eq!(ratio_interval(&[4.0, 5.0], &[1.0], 1), None);
        assert_eq!(ratio_interval(&[4.0, 5.0], &[0.0, 1.0], 1), None);
    }

    #[test]
    fn equal_values_have_an_interval_of_no_width() {
        assert_eq!(median_interval(&[4.0; 9], 1), Some(Interval { low: 4.0, high: 4.0 }));
        assert_eq!(ratio_interval(&[4.0; 9], &[2.0; 5], 1), Some(Interval { low: 2.0, high: 2.0 }));
    }

    #[test]
    fn agrees_with_the_order_statistics_interval() {
        // The exact 95 % interval of the median of 1..=30 by the binomial distribution is [10, 21].
        let values: Vec<f64> = (1..=30).map(f64::from).collect();
        let interval = median_interval(&values, 42).expect("enough values");
        assert!(
            (9.0..=12.0).contains(&interval.low) && (19.0..=22.0).contains(&interval.high),
            "{interval:?}"
        );
    }

    #[test]
    fn covers_the_true_median_about_as_often_as_it_says() {
        let mut generator = Generator::new(99);
        let covered = (0..60)
            .filter(|round| {
                let values: Vec<f64> = (0..25).map(|_| generator.below(10_001) as f64).collect();
                median_interval(&values, *round).expect("enough values").contains(5000.0)
            })
            .count();
        assert!((52..=60).contains(&covered), "{covered} of 60");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn holds_the_median_and_repeats_for_a_seed(values in prop::collection::vec(1.0..1e6f64, 5..30), seed: u64) {
            let interval = median_interval(&values, seed).expect("enough values");
            prop_assert!(interval.contains(median(&values).expect("some")));
            prop_assert_eq!(Some(interval), median_interval(&values, seed));
        }
    }
}
