//! What a machine would be: its memory map, its devices and its kernel's command line.

use vmm::{Plan, VmConfig};

use crate::exit::Exit;
use crate::format::{Format, table};

/// Prints the plan of `config`.
pub(super) fn print(config: &VmConfig, format: Format) -> anyhow::Result<Exit> {
    let plan = Plan::of(config)?;
    if format == Format::Json {
        println!("{:#}", serde_json::to_value(&plan)?);
        return Ok(Exit::Success);
    }
    let mut memory = table(["MEMORY", "TO", "WHAT"]);
    for piece in &plan.memory {
        memory.add_row([format!("{:#x}", piece.start), format!("{:#x}", piece.end), piece.what.clone()]);
    }
    let mut devices = table(["DEVICE", "INTERRUPT", "TYPE", "WHAT"]);
    for slot in &plan.devices {
        let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        devices.add_row([
            format!("{:#x}", slot.address),
            number(slot.interrupt),
            number(slot.device_type),
            slot.what.clone(),
        ]);
    }
    println!("{memory}\n\n{devices}\n\nCOMMAND LINE\n{}", plan.cmdline);
    Ok(Exit::Success)
}
