//! `carve oci list`.

use container::runtime::{Runtime, RuntimeError, State};

use super::Outcome;
use crate::format::{self, Format};

const EXAMPLES: &str = "\
Examples:
  carve oci list
  carve oci list --format json
  carve oci list --quiet";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(runtime: &Runtime, args: &Args) -> Outcome {
    let mut states = Vec::new();
    for id in runtime.ids()? {
        match runtime.state(&id) {
            Ok(state) => states.push(state),
            // Deleted meanwhile.
            Err(RuntimeError::NotFound { .. }) => {}
            // One that is broken does not hide the others.
            Err(error) => tracing::warn!("{id}: {error}; `carve oci delete --force {id}` removes it"),
        }
    }
    match (args.quiet, args.format) {
        (true, _) => states.iter().for_each(|state| println!("{}", state.id)),
        (false, Format::Json) => println!("{}", serde_json::to_string(&states)?),
        (false, Format::Table) => print_table(&states),
    }
    Ok(0)
}

fn print_table(states: &[State]) {
    let mut table = format::table(["ID", "PID", "STATUS", "BUNDLE", "CREATED"]);
    for state in states {
        let (pid, status) = (state.pid.to_string(), state.status.to_string());
        let bundle = state.bundle.display().to_string();
        table.add_row([&state.id, &pid, &status, &bundle, &state.created]);
    }
    println!("{table}");
}
