//! `carve vm stats`: what a machine has counted.

use serde_json::Value;

use super::control::Control;
use crate::exit::Exit;
use crate::format::{Format, grouped, table};

const EXAMPLES: &str = "\
Examples:
  carve vm stats --api-sock /tmp/vm.sock
  carve vm stats --api-sock /tmp/vm.sock --format json | jq .block.read_bytes

Figures are counted since the machine started; the table leaves out those that are 0.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    control: Control,
    /// How to print them
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let figures = args.control.client().get("/metrics")?;
    match args.format {
        Format::Json => println!("{figures:#}"),
        Format::Table => {
            let mut table = table(["DEVICE", "FIGURE", "VALUE"]);
            for (device, figure, value) in rows(&figures) {
                table.add_row([device, figure, grouped(value)]);
            }
            println!("{table}");
        }
    }
    Ok(Exit::Success)
}

/// Group, name and value of each figure that is not 0.
fn rows(figures: &Value) -> Vec<(String, String, u64)> {
    let groups = figures.as_object().into_iter().flatten();
    let groups = groups.filter_map(|(device, group)| Some((device, group.as_object()?)));
    let figures = groups.flat_map(|(device, group)| {
        group.iter().filter_map(move |(name, value)| Some((device.clone(), name.clone(), value.as_u64()?)))
    });
    figures.filter(|(.., value)| *value > 0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_has_what_was_counted() {
        let figures =
            json!({ "utc_timestamp_ms": 5, "block": { "read_count": 3, "flush_count": 0 }, "events": [] });
        assert_eq!(rows(&figures), [("block".to_owned(), "read_count".to_owned(), 3)]);
    }
}
