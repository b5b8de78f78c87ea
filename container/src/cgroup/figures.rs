//! Figures as the files of a group hold them: a number by itself, or lines `key number`.

/// The number that a file holds.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number in the line `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    lines(text).find(|(of, _)| *of == key).map(|(_, number)| number)
}

/// All lines `key number`; others are passed over.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words_and_lines_without_a_number_are_passed_over() {
        let text = "total_rss_huge 1\ntotal_rss 2\nmax max\noom 3\noom_kill 4\n";
        assert_eq!(keyed(text, "total_rss"), Some(2));
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "max"), None);
        assert_eq!(keyed(text, "total"), None);
        assert_eq!(lines(text).count(), 4);
    }
}
