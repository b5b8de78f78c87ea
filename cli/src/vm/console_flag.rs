//! `--console stdio|socket=PATH|file=PATH`.

use std::str::FromStr;

use anyhow::bail;
use vmm::ConsoleConfig;

/// How the flag is written.
pub(super) const FORM: &str = "stdio|socket=PATH|file=PATH";

/// A console as the flag describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Console(pub(super) ConsoleConfig);

impl FromStr for Console {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.split_once('=').unwrap_or((text, "")) {
            ("stdio", "") => ConsoleConfig::Stdio,
            ("socket", path) if !path.is_empty() => ConsoleConfig::Socket(path.into()),
            ("file", path) if !path.is_empty() => ConsoleConfig::File(path.into()),
            _ => bail!("{text:?} is not understood; write {FORM}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_leads_to_one_of_three_places() {
        let cases = [
            ("stdio", ConsoleConfig::Stdio),
            ("socket=/run/c.sock", ConsoleConfig::Socket("/run/c.sock".into())),
            ("file=a=b.log", ConsoleConfig::File("a=b.log".into())),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Console>().unwrap(), Console(wanted), "{text}");
        }
        for text in ["", "stdio=1", "socket", "socket=", "file=", "tty"] {
            let error = text.parse::<Console>().unwrap_err().to_string();
            assert!(error.contains("write stdio|socket=PATH"), "{text}: {error}");
        }
    }
}
