//! Figures as people read them: three significant digits, thin groups of thousands, a unit that fits.

/// A number with about three significant digits: `0.0123`, `4.56`, `78.9`, `1 234`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        s if s >= 99.95 || s == 0.0 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let grouped = group(whole);
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

/// Digits in groups of three, by narrow no-break spaces, from ten thousand on.
fn group(whole: &str) -> String {
    let digits = whole.trim_start_matches('-');
    if digits.len() < 5 {
        return whole.to_owned();
    }
    let mut grouped = whole[..whole.len() - digits.len()].to_owned();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration given in milliseconds: `0.42 ms`, `31.2 ms`, `15.8 s`.
pub(crate) fn duration(ms: f64) -> String {
    if ms.abs() >= 9_999.5 { format!("{} s", number(ms / 1000.0)) } else { format!("{} ms", number(ms)) }
}

/// An amount given in bytes: `512 B`, `34.5 KiB`, `12.3 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", number(value), UNITS[unit]) }
}

/// A time given in seconds since the Unix epoch, as `2025-01-31 12:34 UTC`.
pub(crate) fn date(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days, for dates from 1970 on.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        for (value, expected) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.5, "0.500"),
            (9.996, "10.0"),
            (31.26, "31.3"),
            (99.96, "100"),
            (1234.4, "1234"),
            (15_800.0, "15\u{202f}800"),
            (-1_234_567.0, "-1\u{202f}234\u{202f}567"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn units_fit() {
        assert_eq!(duration(15_812.0), "15.8 s");
        assert_eq!(duration(31.2), "31.2 ms");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1_048_576.0), "1.00 MiB");
        assert_eq!(bytes(-2048.0), "-2.00 KiB");
    }

    #[test]
    fn dates_are_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(unix_s), expected);
        }
    }
}
