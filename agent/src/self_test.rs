//! What a guest says of itself when it is booted for `carve doctor --vm`, as both ends know it: lines on the console.
//!
//! ```text
//! self-test check NAME ok|failed MICROSECONDS FINDING…     once for each check
//! self-test check reseed ok MICROSECONDS FINDING…          once in a machine that goes on from a snapshot
//! self-test tick NUMBER MILLISECONDS                       then ten times a second, with the guest's wall clock
//! ```

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

/// A variable of the agent's environment, and so a word of the kernel's command line: if it is there, the agent examines
/// the machine instead of serving an engine.
pub const VARIABLE: &str = "self_test";
/// What each line begins with.
const WORD: &str = "self-test";
/// The host's end of the guest's network card.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 77, 1);
/// The guest's.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 77, 2);
/// The host's vsock port where something may wait for the guest to connect: the end of this connection tells the guest that
/// it goes on from a snapshot.
pub const VSOCK_PORT: u32 = 1025;
/// Length of their network's prefix, in bits.
pub const PREFIX: u8 = 24;
/// Bytes of a block. The guest reads the first one of its disk, and writes the second one: the first with all bits turned.
pub const BLOCK: usize = 4096;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A check was made.
    Check {
        /// Its name, one word.
        name: String,
        /// What was found, or what is wrong.
        finding: Result<String, String>,
        /// How long it took, in microseconds.
        took_us: u64,
    },
    /// The guest goes on.
    Tick {
        /// How many there have been.
        number: u64,
        /// Milliseconds since 1970, by the guest's clock.
        wall_ms: u64,
    },
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check { name, finding, took_us } => {
                let (outcome, text) = match finding {
                    Ok(text) => ("ok", text),
                    Err(text) => ("failed", text),
                };
                write!(f, "{WORD} check {name} {outcome} {took_us} {text}")
            }
            Self::Tick { number, wall_ms } => write!(f, "{WORD} tick {number} {wall_ms}"),
        }
    }
}

impl Line {
    /// Understands a line of a console; `None` for what else is said there.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.trim().strip_prefix(WORD)?.strip_prefix(' ')?.splitn(5, ' ');
        match words.next()? {
            "check" => {
                let (name, outcome) = (words.next()?.to_owned(), words.next()?);
                let took_us = words.next()?.parse().ok()?;
                let text = words.next().unwrap_or_default().to_owned();
                let finding = match outcome {
                    "ok" => Ok(text),
                    "failed" => Err(text),
                    _ => return None,
                };
                Some(Self::Check { name, finding, took_us })
            }
            "tick" => {
                let (number, wall_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                words.next().is_none().then_some(Self::Tick { number, wall_ms })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_as_they_were_said() {
        let check = |finding| Line::Check { name: "disk".to_owned(), finding, took_us: 1234 };
        for line in [
            check(Ok("4096 bytes both ways".to_owned())),
            check(Err("cannot open /dev/vda: no such device".to_owned())),
            Line::Tick { number: 7, wall_ms: 1_700_000_000_123 },
        ] {
            assert_eq!(Line::parse(&format!("{line}\r\n")), Some(line));
        }
    }

    #[test]
    fn other_output_is_no_line() {
        for text in [
            "",
            "self-test",
            "self-tests tick 1 2",
            "self-test tick 1",
            "self-test tick 1 2 3",
            "self-test tick -1 2",
            "self-test check disk maybe 3 x",
            "self-test check disk ok x",
            "[    0.1] self-test tick 1 2",
        ] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
