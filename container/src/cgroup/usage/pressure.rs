//! How long processes of a group waited for want of something: the kernel's `*.pressure` files (PSI), in the words of runc's
//! `psi`.

use serde::Serialize;

/// What they waited for one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// While at least one of them waited.
    pub some: Waited,
    /// While all of them did.
    pub full: Waited,
}

/// A part of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waited {
    /// Of the last 10 seconds, in percent.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Pressure {
    /// From the content of a file, like `some avg10=0.00 avg60=0.13 avg300=0.17 total=39029366`; `None` where the kernel
    /// does not count. Older ones have no `full` for the CPU.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in text.lines() {
            let (kind, figures) = line.split_once(' ')?;
            match kind {
                "some" => found.some = Waited::parse(figures)?,
                "full" => found.full = Waited::parse(figures)?,
                _ => {}
            }
        }
        (!text.is_empty()).then_some(found)
    }
}

impl Waited {
    fn parse(figures: &str) -> Option<Self> {
        let mut found = Self::default();
        for (key, value) in figures.split_whitespace().filter_map(|word| word.split_once('=')) {
            // What is no number cannot be written as JSON.
            let share = || value.parse().ok().filter(|share: &f64| share.is_finite());
            match key {
                "avg10" => found.avg10 = share()?,
                "avg60" => found.avg60 = share()?,
                "avg300" => found.avg300 = share()?,
                "total" => found.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let some = "some avg10=1.50 avg60=0.13 avg300=0.17 total=39029366\n";
        let full = "full avg10=0.25 avg60=0.00 avg300=0.00 total=7\n";
        let both = Pressure::parse(&(some.to_owned() + full)).unwrap();
        assert_eq!((both.some.avg10, both.some.total, both.full.avg10), (1.5, 39_029_366, 0.25));
        assert_eq!(Pressure::parse(some).unwrap().full, Waited::default());
        for damaged in ["", "some", "some avg10=x", "some avg10=nan", "some total=-1"] {
            assert_eq!(Pressure::parse(damaged), None, "{damaged:?}");
        }
    }
}
