//! `carve oci events ID`.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use container::runtime::{Event, Runtime};
use serde::Serialize;
use serde_json::Value;

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  carve oci events --stats web1            the figures now, as one line of JSON
  carve oci events --interval 10s web1     every ten seconds, and when memory runs out, until it ends";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print the figures once
    #[arg(long)]
    stats: bool,
    /// How often to print them, like 500ms, 5s or 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

/// One line, as runc prints it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    let id = &args.id;
    if args.stats {
        print(&Line { kind: "stats", id, data: Some(serde_json::to_value(runtime.usage(id)?)?) })?;
        return Ok(0);
    }
    let mut failed = None;
    runtime.watch(id, args.interval, |event| {
        let line = match event {
            Event::Stats(usage) => Line { kind: "stats", id, data: serde_json::to_value(usage).ok() },
            Event::OutOfMemory => Line { kind: "oom", id, data: None },
        };
        failed = print(&line).err();
        failed.is_none()
    })?;
    failed.map_or(Ok(0), Err)
}

fn print(line: &Line<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

fn parse_interval(text: &str) -> anyhow::Result<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => bail!("{unit:?} is no unit of time; use ms, s or m"),
    };
    if duration.is_zero() {
        bail!("must be longer than nothing");
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units() {
        for (text, ms) in [("500ms", 500), ("5s", 5000), ("5", 5000), ("1m", 60_000)] {
            assert_eq!(parse_interval(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "s", "0s", "5h", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_is_as_runc_prints_it() {
        let line = Line { kind: "oom", id: "web", data: None };
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"type":"oom","id":"web"}"#);
    }
}
