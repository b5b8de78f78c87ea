//! What one more idle clone of a snapshot takes of the host's memory: the slope of MemAvailable over their number.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::machine::{Carve, Machine};
use super::memory::available_mib;
use super::restore::{restore, take};
use crate::figures::Figure;

const CLONES: usize = 10;
const SIZE_MIB: u32 = 256;
/// Most that a clone may take, in MiB.
const LIMIT_MIB: f64 = 12.0;
/// How long clones are given to come to rest.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn measure(carve: &Carve) -> Result<Vec<Figure>> {
    let dir = carve.guests.tiny.with_file_name("clones");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    take(carve, &dir, "auto", SIZE_MIB)?;
    let mut clones = Vec::new();
    let mut available = Vec::new();
    for _ in 0..=CLONES {
        clones.push(Machine::start(&mut restore(carve, &dir, SIZE_MIB))?);
        sleep(SETTLE);
        available.push(available_mib()?);
    }
    drop(clones);
    let _ = std::fs::remove_dir_all(&dir);
    let each = slope(&available).map(|slope| -slope);
    Ok(vec![Figure::one("one more idle clone of 256 MiB, by MemAvailable", "MiB", each).at_most(LIMIT_MIB)])
}

/// The slope of `values` over their index, by least squares.
fn slope(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let deviations = values.iter().enumerate().map(|(index, value)| (index as f64 - mean_x, value - mean_y));
    let (covariance, variance) = deviations.fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + x * y, xx + x * x));
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        assert_eq!(slope(&[10.0, 8.0, 6.0, 4.0]), Some(-2.0));
        assert_eq!(slope(&[10.0]), None);
    }
}
