//! Samples, taken round after round with the runtimes in a random order in each; and what they are compared by.

use anyhow::{Context, Result};

use super::runtime::{Bench, Runtime};
use crate::engines::SplitMix64;
use crate::figures::Figure;
use crate::progress::bar;

/// Samples of one kind, of each runtime.
pub(super) struct Samples(Vec<(Runtime, f64)>);

impl Samples {
    /// Takes `rounds` of each of the bench's runtimes.
    pub(super) fn take(
        bench: &Bench,
        what: &str,
        rounds: u32,
        mut sample: impl FnMut(Runtime) -> Result<f64>,
    ) -> Result<Self> {
        let mut order = bench.runtimes.clone();
        let mut random = SplitMix64(bench.seed);
        let mut samples = Vec::new();
        let bar = bar(rounds as usize);
        bar.set_message(what.to_owned());
        for _ in 0..rounds {
            random.shuffle(&mut order);
            for &runtime in &order {
                let value = sample(runtime).with_context(|| format!("{what}, {}", runtime.name()))?;
                samples.push((runtime, value));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Self(samples))
    }

    /// The figures of each runtime, and carve's as a share of its peers', which may be at most their limits.
    pub(super) fn figures(&self, what: &str, unit: &'static str, limits: &[(Runtime, f64)]) -> Vec<Figure> {
        let figure = |runtime: Runtime| {
            let samples = self.0.iter().filter(|(of, _)| *of == runtime).map(|(_, value)| *value);
            Figure::of_samples(&format!("{what}, {}", runtime.name()), unit, samples.collect())
        };
        let ours = figure(Runtime::Carve);
        let mut peers = Vec::new();
        let mut shares = Vec::new();
        for peer in [Runtime::Crun, Runtime::Runc] {
            let theirs = figure(peer);
            // What was not measured is absent.
            let Some((median, own)) = theirs.value.zip(ours.value) else { continue };
            let limit = limits.iter().find(|(of, _)| *of == peer).map(|(_, limit)| *limit);
            let name = format!("{what}, carve's to {}'s", peer.name());
            let share = Figure::one(&name, "", Some(own / median));
            shares.push(match limit {
                Some(limit) => share.at_most(limit),
                None => share,
            });
            peers.push(theirs);
        }
        std::iter::once(ours).chain(peers).chain(shares).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_peers_have_no_figures_and_break_no_limit() {
        let samples = Samples(vec![(Runtime::Carve, 2.0), (Runtime::Crun, 4.0)]);
        let figures = samples.figures("start", "ms", &[(Runtime::Crun, 0.9), (Runtime::Runc, 0.5)]);
        let values: Vec<Option<f64>> = figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [Some(2.0), Some(4.0), Some(0.5)]);
    }
}
