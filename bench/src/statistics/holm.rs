//! Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979): with several comparisons in one report,
//! one of them being called different by chance stays as unlikely as for a single one.

/// The p-values adjusted for their number, in the order given.
#[must_use]
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_unstable_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut highest = 0.0_f64;
    for (rank, &i) in order.iter().enumerate() {
        let remaining = (p_values.len() - rank) as f64;
        highest = highest.max((remaining * p_values[i]).min(1.0));
        adjusted[i] = highest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_known_values() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let got = adjusted(&[0.01, 0.04, 0.03, 0.005]);
        for (value, expected) in got.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((value - expected).abs() < 1e-12, "{got:?}");
        }
        assert!(adjusted(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn never_lowers_a_p_value_and_keeps_their_order(p in prop::collection::vec(0.0..=1.0f64, 1..10)) {
            let after = adjusted(&p);
            for i in 0..p.len() {
                prop_assert!(after[i] >= p[i] && after[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || after[i] <= after[j]);
                }
            }
        }
    }
}
