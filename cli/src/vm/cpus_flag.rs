//! `--cpus N[,affinity=CPU[-CPU][:…]]`.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// How the flag is written.
pub(super) const FORM: &str = "N[,affinity=CPU[-CPU][:CPU[-CPU]…]]";

/// Virtual CPUs as the flag describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cpus {
    /// How many.
    pub(super) count: u8,
    /// CPUs of the host for each of the first of them.
    pub(super) affinity: Vec<Vec<u16>>,
}

impl FromStr for Cpus {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(',');
        let count = words.next().unwrap_or_default();
        let count = count.parse().with_context(|| format!("{count:?} is no number of CPUs; write {FORM}"))?;
        let mut affinity = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some(("affinity", places)) => {
                    affinity = places.split(':').map(range).collect::<Result<_, _>>()?;
                }
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        Ok(Self { count, affinity })
    }
}

/// The CPUs of `A` or `A-B`.
fn range(text: &str) -> anyhow::Result<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().with_context(|| format!("{text:?} is no CPU of the host"));
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the CPUs {text} are none; write the lower one first");
    Ok((first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_and_bound_in_their_order() {
        let cpus = |text: &str| text.parse::<Cpus>().map_err(|error| format!("{error:#}"));
        assert_eq!(cpus("2"), Ok(Cpus { count: 2, affinity: vec![] }));
        let affinity = vec![vec![3], vec![0, 1, 2]];
        assert_eq!(cpus("4,affinity=3:0-2"), Ok(Cpus { count: 4, affinity }));
        for (bad, complaint) in [
            ("", "no number of CPUs"),
            ("256", "no number of CPUs"),
            ("2,pin=1", "\"pin=1\" is not understood"),
            ("2,affinity=", "\"\" is no CPU of the host"),
            ("2,affinity=1:", "\"\" is no CPU of the host"),
            ("2,affinity=3-1", "the lower one first"),
            ("2,affinity=70000", "\"70000\" is no CPU of the host"),
        ] {
            let error = cpus(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
