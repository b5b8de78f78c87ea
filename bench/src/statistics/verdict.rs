//! The word a comparison ends in. A difference is called one only when it is both beyond chance and large enough to
//! matter; everything else is "no difference shown", which is not "they are equal".

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;

/// The practical threshold, fixed beforehand: a ratio nearer to 1 than this is of no interest.
pub const THRESHOLD: f64 = 0.05;
/// A p-value, corrected, must be below this.
pub const SIGNIFICANCE: f64 = 0.05;

/// What a comparison of a subject with its reference shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The subject needs less (time, memory) than the reference: its whole interval is below 1 / 1.05.
    Less,
    /// The subject needs more than the reference: its whole interval is above 1.05.
    More,
    /// Neither was shown.
    NoDifferenceShown,
}

impl Verdict {
    /// The verdict in words for a duration.
    #[must_use]
    pub fn of_time(self) -> &'static str {
        match self {
            Self::Less => "faster",
            Self::More => "slower",
            Self::NoDifferenceShown => "no difference shown",
        }
    }

    /// The verdict in words for an amount.
    #[must_use]
    pub fn of_amount(self) -> &'static str {
        match self {
            Self::Less => "less",
            Self::More => "more",
            Self::NoDifferenceShown => "no difference shown",
        }
    }
}

/// The verdict on a ratio of medians, from its interval and its corrected p-value.
#[must_use]
pub fn verdict(ratio: Interval, p: f64) -> Verdict {
    if p >= SIGNIFICANCE {
        Verdict::NoDifferenceShown
    } else if ratio.low > 1.0 + THRESHOLD {
        Verdict::More
    } else if ratio.high < 1.0 / (1.0 + THRESHOLD) {
        Verdict::Less
    } else {
        Verdict::NoDifferenceShown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_both_size_and_significance() {
        for (low, high, p, expected) in [
            (1.2, 1.4, 0.001, Verdict::More),
            (1.2, 1.4, 0.2, Verdict::NoDifferenceShown),
            (1.04, 1.4, 0.001, Verdict::NoDifferenceShown),
            (0.5, 0.9, 0.001, Verdict::Less),
            (0.5, 0.96, 0.001, Verdict::NoDifferenceShown),
            (0.98, 1.02, 0.001, Verdict::NoDifferenceShown),
        ] {
            assert_eq!(verdict(Interval { low, high }, p), expected, "{low} {high} {p}");
        }
    }
}
