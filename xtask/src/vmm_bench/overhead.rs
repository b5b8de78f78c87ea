//! Memory of the VMM's process outside of guest RAM, with a Linux of 128 MiB idle in it that uses a disk, a network card and
//! a socket device.

use std::fs::File;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::machine::{Carve, Machine};
use super::memory;
use super::report::Figure;
use crate::command::line;

/// Most that may be resident under KVM, in MiB.
const LIMIT_MIB: f64 = 3.0;
/// How long a guest is given to come to rest.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn measure(carve: &Carve) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for engine in ["kvm", "soft"] {
        let resident = resident(carve, engine)?;
        let name = format!("VMM outside guest RAM, engine {engine}");
        let figure = Figure::one(&name, "MiB", Some(resident.own_mib));
        figures.push(if engine == "kvm" { figure.at_most(LIMIT_MIB) } else { figure });
        figures.push(Figure::one("  its share, by PSS", "MiB", Some(resident.own_share_mib)));
        figures.push(Figure::one("  guest RAM that was touched", "MiB", Some(resident.guest_mib)));
    }
    Ok(figures)
}

fn resident(carve: &Carve, engine: &str) -> Result<memory::Resident> {
    let dir = carve.guests.tiny.with_file_name("overhead");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let disk = dir.join("disk");
    let file = File::create(&disk).with_context(|| format!("cannot make {}", disk.display()))?;
    file.set_len(16 << 20).with_context(|| format!("cannot make {}", disk.display()))?;
    let socket = dir.join("vsock");
    let _ = std::fs::remove_file(&socket);
    let mut boot = carve.boot_idle(engine, 128);
    boot.arg("--disk").arg(&disk).args(["--net", "tap=bench0", "--vsock"]);
    boot.arg(&socket);
    // A network of its own: the tap goes with it.
    let mut alone = Command::new("unshare");
    alone.arg("--net").arg(boot.get_program()).args(boot.get_args());
    let mut machine = Machine::start(&mut alone)?;
    machine.wait_for_mark()?;
    sleep(SETTLE);
    let resident = memory::resident(machine.vmm_pid())?;
    if resident.guest_mib < 1.0 {
        bail!("{}: found no guest RAM in its process", line(&boot));
    }
    Ok(resident)
}
