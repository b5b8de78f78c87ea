//! `carve ps`: lists instances.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use engine::{Engine, Instance, State};
use serde_json::json;

use crate::{
    exit::Exit,
    format::{self, Format},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carve ps\n  carve ps -a --format json")]
pub(crate) struct Args {
    /// Show ended instances too
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    let instances: Vec<_> =
        Engine::open(root)?.list()?.into_iter().filter(|i| args.all || i.state == State::Running).collect();
    if args.quiet {
        instances.iter().for_each(|i| println!("{}", i.id));
        return Ok(Exit::Success);
    }
    match args.format {
        Format::Json => println!("{:#}", instances.iter().map(to_json).collect::<serde_json::Value>()),
        Format::Table => println!("{}", table(&instances)),
    }
    Ok(Exit::Success)
}

fn to_json(instance: &Instance) -> serde_json::Value {
    json!({
        "id": instance.id,
        "name": instance.name,
        "model": instance.spec.model.as_str(),
        "image": instance.spec.image,
        "state": instance.state.as_str(),
        "created": instance.created,
        "exit_code": instance.exit_code,
        "error": instance.error,
        "address": instance.address,
        "ports": instance.spec.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn table(instances: &[Instance]) -> comfy_table::Table {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut table = format::table(["ID", "NAME", "MODEL", "IMAGE", "STATE", "CREATED", "PORTS"]);
    for instance in instances {
        let state = match (instance.state, instance.exit_code, &instance.error) {
            (State::Exited, _, Some(error)) => format!("exited: {error}"),
            (State::Exited, Some(code), None) => format!("exited ({code})"),
            (state, ..) => state.as_str().to_owned(),
        };
        let ports: Vec<_> = instance.spec.ports.iter().map(ToString::to_string).collect();
        table.add_row([
            instance.id.clone(),
            instance.name.clone(),
            instance.spec.model.as_str().to_owned(),
            instance.spec.image.clone(),
            state,
            format::ago(now.saturating_sub(instance.created)),
            ports.join(", "),
        ]);
    }
    table
}
