//! `carve rm NAME…`: removes instances.

use std::path::Path;

use engine::Engine;

use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carve rm web\n  carve rm --force $(carve ps -aq)")]
pub(crate) struct Args {
    /// End them first if they run
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    let engine = Engine::open(root)?;
    for name in &args.instances {
        engine.remove(name, args.force)?;
        println!("{name}");
    }
    Ok(Exit::Success)
}
