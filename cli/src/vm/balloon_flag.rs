//! `--balloon [MIB][,reporting][,deflate-on-oom][,stats=SECONDS]`.

use std::str::FromStr;

use anyhow::{Context, bail};
use vmm::BalloonConfig;

/// How the flag is written.
pub(super) const FORM: &str = "[MIB][,reporting][,deflate-on-oom][,stats=SECONDS]";

/// A balloon as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Balloon(pub(super) BalloonConfig);

impl FromStr for Balloon {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut config = BalloonConfig::default();
        for (position, word) in text.split(',').enumerate() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("", "") if position == 0 => {}
                ("reporting", "") => config.free_page_reporting = true,
                ("deflate-on-oom", "") => config.deflate_on_oom = true,
                ("stats", seconds) => {
                    config.stats_polling_interval_s =
                        seconds.parse().with_context(|| format!("{seconds:?} is no number of seconds"))?;
                }
                (size, "") if position == 0 => {
                    config.amount_mib = size
                        .parse()
                        .with_context(|| format!("{size:?} is no number of MiB; write {FORM}"))?;
                }
                _ => bail!("{word:?} is not understood; write {FORM}"),
            }
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_may_be_there_or_not() {
        let none = BalloonConfig::default();
        let cases = [
            ("", none.clone()),
            ("64", BalloonConfig { amount_mib: 64, ..none.clone() }),
            ("reporting", BalloonConfig { free_page_reporting: true, ..none.clone() }),
            (",deflate-on-oom", BalloonConfig { deflate_on_oom: true, ..none.clone() }),
            (
                "1,stats=5,reporting",
                BalloonConfig {
                    amount_mib: 1,
                    stats_polling_interval_s: 5,
                    free_page_reporting: true,
                    ..none
                },
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Balloon>().unwrap(), Balloon(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("big", "no number of MiB"),
            ("reporting,64", "\"64\" is not understood"),
            ("64,fast", "\"fast\" is not understood"),
            ("64,stats=soon", "\"soon\" is no number of seconds"),
            ("64,stats=99999", "no number of seconds"),
            ("64,", "not understood"),
        ] {
            let error = text.parse::<Balloon>().unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
