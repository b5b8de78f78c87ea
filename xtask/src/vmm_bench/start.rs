//! From the start of the command to the first output of a guest of a few instructions: what starting a VMM costs, whatever
//! a kernel costs. QEMU's smallest machine does the same in turn, in random order.

use std::process::Command;

use anyhow::{Context, Result};

use super::machine::{Carve, time_to_mark};
use crate::engines::{QEMU, SplitMix64, Times};
use crate::figures::Figure;
use crate::progress::{bar, say};

/// Most that our median may be of QEMU's.
const LIMIT: f64 = 0.25;
const QEMU_MACHINE: [&str; 14] = [
    "-M",
    "microvm,x-option-roms=off",
    "-accel",
    "kvm",
    "-smp",
    "1",
    "-m",
    "128",
    "-nodefaults",
    "-no-user-config",
    "-nographic",
    "-no-reboot",
    "-serial",
    "stdio",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vmm {
    Carve,
    CarveUnjailed,
    Qemu,
}

pub(super) fn measure(carve: &Carve, samples: u32, seed: u64) -> Result<Vec<Figure>> {
    let command = |vmm: Vmm| match vmm {
        Vmm::Qemu => {
            let mut command = Command::new(QEMU);
            command.args(QEMU_MACHINE).arg("-kernel").arg(&carve.guests.tiny);
            command
        }
        vmm => {
            let mut command = carve.vm("boot");
            command.args(["--engine", "kvm", "--memory", "128", "--kernel"]).arg(&carve.guests.tiny);
            command.args((vmm == Vmm::CarveUnjailed).then_some("--no-jail"));
            command
        }
    };
    // Not counted: fills the page cache, and shows what is there.
    time_to_mark(&mut command(Vmm::Carve)).context("carve does not start the tiny guest")?;
    let mut vmms = vec![Vmm::Carve, Vmm::CarveUnjailed];
    match time_to_mark(&mut command(Vmm::Qemu)) {
        Ok(_) => vmms.push(Vmm::Qemu),
        Err(error) => say("vmm-bench", &format!("QEMU is not measured: {error:#}")),
    }
    let mut times: Vec<(Vmm, f64)> = Vec::new();
    let mut random = SplitMix64(seed);
    let bar = bar(samples as usize);
    for _ in 0..samples {
        random.shuffle(&mut vmms);
        for &vmm in &vmms {
            times.push((vmm, time_to_mark(&mut command(vmm))?.as_secs_f64() * 1e3));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let of = |vmm| times.iter().filter(move |(of, _)| *of == vmm).map(|(_, time)| *time).collect::<Vec<_>>();
    let (ours, unjailed, qemu) = (of(Vmm::Carve), of(Vmm::CarveUnjailed), of(Vmm::Qemu));
    let ratio = Times::of(ours.iter().copied()).zip(Times::of(qemu.iter().copied()));
    let ratio = ratio.map(|(ours, qemu)| ours.median_s / qemu.median_s);
    Ok(vec![
        Figure::of_samples("tiny guest, command to first output", "ms", ours),
        Figure::of_samples("  without the jail", "ms", unjailed),
        Figure::of_samples("  QEMU microvm, KVM", "ms", qemu),
        Figure::one("  ours to QEMU's, medians", "", ratio).at_most(LIMIT),
    ])
}
