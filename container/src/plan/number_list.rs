//! Lists of numbers and ranges, like `0-3,8`: CPUs and memory nodes (cpuset(7), "List format").

use super::{PlanError, invalid};

/// The numbers of `text` as bits, for numbers below `limit`.
pub(crate) fn number_list(field: &str, text: &str, limit: usize) -> Result<Vec<u64>, PlanError> {
    let refused = || invalid(field, text, "must be a list of numbers and ranges, like 0-3,8");
    let mut bits: Vec<u64> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            (first.parse().map_err(|_| refused())?, last.parse().map_err(|_| refused())?);
        if first > last || last >= limit {
            return Err(refused());
        }
        bits.resize(bits.len().max(last / 64 + 1), 0);
        for number in first..=last {
            bits[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_become_bits() {
        assert_eq!(number_list("x", "", 64).unwrap(), Vec::<u64>::new());
        assert_eq!(number_list("x", "0-2, 5", 64).unwrap(), [0b10_0111]);
        assert_eq!(number_list("x", "64", 128).unwrap(), [0, 1]);
    }

    #[test]
    fn nonsense_and_too_much_are_refused() {
        for text in ["a", "1-", "-1", "3-1", "64", "0-99999999999999999999", "1,,x"] {
            assert!(number_list("x", text, 64).is_err(), "{text}");
        }
    }
}
