//! Medians and other quantiles by linear interpolation (Hyndman and Fan's type 7, the default of R and `NumPy`).

/// The values in ascending order.
#[must_use]
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile at `permille` thousandths of values that are in ascending order; `None` when there are none.
#[must_use]
pub fn of_sorted(values: &[f64], permille: usize) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = last * permille.min(1000);
    let (below, rest) = (position / 1000, position % 1000);
    let above = (below + 1).min(last);
    Some(values[below] + (values[above] - values[below]) * rest as f64 / 1000.0)
}

/// The quantile at `permille` thousandths; `None` when there are no values.
#[must_use]
pub fn quantile(values: &[f64], permille: usize) -> Option<f64> {
    of_sorted(&sorted(values), permille)
}

/// The median; `None` when there are no values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_known_values() {
        for (values, permille, expected) in [
            (&[1.0, 2.0, 3.0, 4.0][..], 500, 2.5),
            (&[4.0, 1.0, 3.0, 2.0][..], 250, 1.75),
            (&[1.0, 2.0, 3.0, 4.0][..], 900, 3.7),
            (&[5.0][..], 990, 5.0),
            (&[3.0, 1.0, 2.0][..], 500, 2.0),
            (&[3.0, 1.0, 2.0][..], 0, 1.0),
            (&[3.0, 1.0, 2.0][..], 1000, 3.0),
        ] {
            let got = quantile(values, permille).expect("there are values");
            assert!((got - expected).abs() < 1e-9, "{values:?} at {permille}: {got}");
        }
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(median(&[]), None);
    }

    proptest! {
        #[test]
        fn lies_within_the_values_and_grows_with_the_quantile(
            values in prop::collection::vec(-1e9..1e9f64, 1..40), low in 0usize..=1000, high in 0usize..=1000,
        ) {
            let (low, high) = (low.min(high), low.max(high));
            let ordered = sorted(&values);
            let (a, b) = (quantile(&values, low).expect("some"), quantile(&values, high).expect("some"));
            prop_assert!(a <= b + 1e-6);
            prop_assert!(ordered[0] <= a && b <= ordered[ordered.len() - 1]);
        }

        #[test]
        fn half_of_the_values_are_on_either_side_of_the_median(values in prop::collection::vec(-1e9..1e9f64, 1..40)) {
            let middle = median(&values).expect("some");
            prop_assert!(values.iter().filter(|v| **v <= middle).count() * 2 >= values.len());
            prop_assert!(values.iter().filter(|v| **v >= middle).count() * 2 >= values.len());
        }
    }
}
