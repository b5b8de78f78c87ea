//! Sizes, numbers and times as people write and read them.

use clap::ValueEnum;

/// How a verb that prints data prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// `512`, `64k`, `128m`, `2g`: bytes, in Docker's binary units.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        unit => return Err(format!("no unit {unit:?}; write b, k, m or g")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a size; write 128m or 2g"))?;
    number
        .checked_shl(shift)
        .filter(|n| *n > 0 && *n >> shift == number)
        .ok_or_else(|| format!("{text} is out of range"))
}

/// `0.5`, `2`: thousandths of a CPU.
pub(crate) fn parse_cpus(text: &str) -> Result<u32, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of CPUs; write 0.5 or 2"))?;
    if !(0.01..=1024.0).contains(&cpus) {
        return Err(format!("{text} is out of range; from 0.01 to 1024 CPUs can be given"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, just checked")]
    Ok((cpus * 1000.0).round() as u32)
}

/// `12.3 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut tenths = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{whole}.{tenths} {}", UNITS[unit]),
    }
}

/// `12,345,678`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at((digits.len() - 1) % 3 + 1);
    let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
    groups.fold(head.to_owned(), |text, group| format!("{text},{group}"))
}

/// `3 minutes ago`.
pub(crate) fn ago(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural} ago")
}

/// A table without lines, as Docker prints them.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_docker_does() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("128m"), Ok(128 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for text in ["", "m", "-1", "1.5g", "1t", "0", "99999999999999999999", "18446744073709551615g"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_cpus_as_thousandths() {
        assert_eq!(parse_cpus("0.5"), Ok(500));
        assert_eq!(parse_cpus("2"), Ok(2000));
        for text in ["", "0", "-1", "x", "NaN", "1e9"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_the_digits_of_large_numbers() {
        let numbers = [0, 7, 999, 1_000, 45_678, 1_002_003];
        assert_eq!(numbers.map(grouped), ["0", "7", "999", "1,000", "45,678", "1,002,003"]);
    }

    #[test]
    fn prints_sizes_and_ages_for_people() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(ago(1), "1 second ago");
        assert_eq!(ago(7200), "2 hours ago");
    }
}
