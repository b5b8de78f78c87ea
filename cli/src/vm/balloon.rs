//! `carve vm balloon`: the size of a machine's memory balloon, and what the guest says of its memory.

use serde_json::{Value, json};

use super::control::Control;
use crate::exit::Exit;
use crate::format::{Format, table};

const EXAMPLES: &str = "\
Examples:
  carve vm balloon --api-sock /tmp/vm.sock 64
  carve vm balloon --api-sock /tmp/vm.sock

With a number, asks the guest to give back that many MiB; it does so in its own time. Without, shows how far it is.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    control: Control,
    /// Memory that the guest is to give back
    #[arg(value_name = "MIB")]
    size: Option<u32>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let client = args.control.client();
    if let Some(amount_mib) = args.size {
        client.patch("/balloon", &json!({ "amount_mib": amount_mib }))?;
        return Ok(Exit::Success);
    }
    let statistics = client.get("/balloon/statistics")?;
    match args.format {
        Format::Json => println!("{statistics:#}"),
        Format::Table => {
            let mut table = table(["FIGURE", "VALUE"]);
            for (name, value) in statistics.as_object().into_iter().flatten() {
                table.add_row([name, &Value::to_string(value)]);
            }
            println!("{table}");
        }
    }
    Ok(Exit::Success)
}
