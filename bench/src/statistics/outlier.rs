//! Flags values far from the rest, by the median absolute deviation. A flagged value is kept; the flag only tells the
//! reader where to look.

use super::quantile::median;

/// A modified z-score above this is flagged (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993).
const LIMIT: f64 = 3.5;
/// Makes the median absolute deviation of a normal distribution its standard deviation.
const CONSISTENCY: f64 = 1.4826;

/// For each value, whether it is far from the rest. Nothing is flagged when more than half of the values are equal.
#[must_use]
pub fn flags(values: &[f64]) -> Vec<bool> {
    let Some(middle) = median(values) else { return Vec::new() };
    let distances: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    let spread = CONSISTENCY * median(&distances).unwrap_or(0.0);
    distances.iter().map(|distance| spread > 0.0 && distance / spread > LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_the_one_far_value() {
        assert_eq!(flags(&[10.0, 11.0, 10.5, 9.5, 40.0]), [false, false, false, false, true]);
    }

    #[test]
    fn flags_nothing_without_spread() {
        assert_eq!(flags(&[1.0, 1.0, 1.0, 9.0]), [false; 4]);
        assert!(flags(&[]).is_empty());
    }
}
