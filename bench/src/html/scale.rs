//! Where a value lies on an axis, and which ticks the axis has.

use maud::{Markup, html};

use super::px;

/// An axis from one value to another, over a range of coordinates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
}

impl Scale {
    /// From 0 to `max`.
    pub(super) fn linear(max: f64, left: f64, right: f64) -> Self {
        Self { from: 0.0, to: if max > 0.0 { max } else { 1.0 }, left, right }
    }

    /// From a little below `min` to a little above `max`.
    pub(super) fn around(min: f64, max: f64, left: f64, right: f64) -> Self {
        let margin = ((max - min) * 0.08).max(max.abs() * 0.01).max(1e-9);
        Self { from: (min - margin).max(0.0), to: max + margin, left, right }
    }

    /// The coordinate of `value`.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// Round values of the axis, counted in `unit`s: multiples of a step of 1, 2 or 5 times a power of ten, at most
    /// seven.
    fn ticks(&self, unit: f64) -> Vec<f64> {
        let (from, to) = (self.from / unit, self.to / unit);
        let rough = (to - from) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let first = (from / step).ceil();
        (0..=6_u8).map(|i| (first + f64::from(i)) * step).filter(|tick| *tick <= to).collect()
    }

    /// The ticks as lines from `top` to `bottom`, their labels below.
    pub(super) fn axis(&self, top: f64, bottom: f64, unit: Unit) -> Markup {
        let (divisor, name) = unit.fitting(self.to);
        html! {
            @for tick in self.ticks(divisor) {
                @let x = px(self.at(tick * divisor));
                line.grid x1=(x) x2=(x) y1=(px(top)) y2=(px(bottom)) {}
                text.soft.middle x=(x) y=(px(bottom + 16.0)) { (shortest(tick)) " " (name) }
            }
        }
    }
}

/// What an axis counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Milliseconds.
    Time,
    /// Bytes.
    Amount,
}

impl Unit {
    /// The unit that all ticks up to `max` are written in, and what it divides them by.
    fn fitting(self, max: f64) -> (f64, &'static str) {
        match self {
            Self::Time if max >= 2000.0 => (1000.0, "s"),
            Self::Time => (1.0, "ms"),
            Self::Amount if max >= 2_097_152.0 => (1_048_576.0, "MiB"),
            Self::Amount => (1024.0, "KiB"),
        }
    }
}

/// A round number without the digits that say nothing.
fn shortest(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_in_proportion() {
        let scale = Scale::linear(200.0, 100.0, 300.0);
        assert_eq!(
            [scale.at(0.0), scale.at(50.0), scale.at(200.0), scale.at(999.0)],
            [100.0, 150.0, 300.0, 300.0]
        );
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Scale::linear(31.0, 0.0, 1.0).ticks(1.0), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(Scale::linear(15_800.0, 0.0, 1.0).ticks(1.0), [0.0, 5000.0, 10_000.0, 15_000.0]);
        assert!(Scale::linear(0.0, 0.0, 1.0).ticks(1.0).len() <= 7);
        assert!(Scale::around(29.0, 31.0, 0.0, 1.0).ticks(1.0).len() >= 2);
    }

    #[test]
    fn all_ticks_are_in_one_unit() {
        let axis = Scale::linear(15_800.0, 0.0, 1.0).axis(0.0, 1.0, Unit::Time).into_string();
        assert!(axis.contains(">0 s<") && axis.contains(">15 s<"), "{axis}");
        let axis = Scale::linear(1.2, 0.0, 1.0).axis(0.0, 1.0, Unit::Time).into_string();
        assert!(axis.contains(">0.5 ms<"), "{axis}");
        let axis = Scale::linear(34.7 * 1_048_576.0, 0.0, 1.0).axis(0.0, 1.0, Unit::Amount).into_string();
        assert!(axis.contains(">10 MiB<") && axis.contains(">30 MiB<"), "{axis}");
    }
}
