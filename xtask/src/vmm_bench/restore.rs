//! How long a machine in a snapshot takes to its next instruction, for machines of several sizes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::{Carve, Machine};
use crate::engines::SplitMix64;
use crate::figures::Figure;
use crate::progress::bar;

/// RAM of the machines, in MiB.
const SIZES: [u32; 3] = [256, 1024, 4096];
/// Most that the smallest may take from the load of the snapshot on, in ms.
const LIMIT_MS: f64 = 10.0;
/// Most that the largest may take, as a multiple of the smallest.
const GROWTH: f64 = 1.5;
/// What is measured of each. KVM without hardware assistance has a table of eight bytes for each page of a guest's memory, which it
/// makes when it is told of the memory: with the software engine that is before the first program runs.
const WHAT: [&str; 3] = ["load to next instruction", "of it KVM", "command to next instruction"];

pub(super) fn measure(carve: &Carve, samples: u32, seed: u64) -> Result<Vec<Figure>> {
    let dir = carve.guests.tiny.with_file_name("restore");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for size in SIZES {
        take(carve, &dir, "auto", size)?;
    }
    let mut order = SIZES;
    let mut times: Vec<(u32, [f64; 3])> = Vec::new();
    let mut random = SplitMix64(seed);
    let bar = bar(samples as usize);
    for _ in 0..samples {
        random.shuffle(&mut order);
        for size in order {
            times.push((size, time(carve, &dir, size)?));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut figures = Vec::new();
    for size in SIZES {
        for (index, what) in WHAT.into_iter().enumerate() {
            let samples = times.iter().filter(|(of, _)| *of == size).map(|(_, times)| times[index]).collect();
            let figure = Figure::of_samples(&format!("restore of {size} MiB, {what}"), "ms", samples);
            figures.push(if (size, index) == (SIZES[0], 0) { figure.at_most(LIMIT_MS) } else { figure });
        }
    }
    let last = WHAT.len() * (SIZES.len() - 1);
    let growth = figures[last].value.zip(figures[0].value).map(|(large, small)| large / small);
    figures.push(Figure::one("  4096 MiB to 256 MiB, medians", "", growth).at_most(GROWTH));
    let _ = std::fs::remove_dir_all(&dir);
    Ok(figures)
}

/// Boots an idle Linux and takes a snapshot of it.
pub(super) fn take(carve: &Carve, dir: &Path, engine: &str, size: u32) -> Result<()> {
    let socket = dir.join("api.sock");
    let _ = std::fs::remove_file(&socket);
    let mut machine =
        Machine::start(carve.boot_idle(engine, size).arg("--no-jail").arg("--api-sock").arg(&socket))?;
    machine.wait_for_mark()?;
    carve.snapshot(&socket, &dir.join(format!("{size}.state")), &dir.join(format!("{size}.memory")))
}

/// The command that starts from it.
pub(super) fn restore(carve: &Carve, dir: &Path, size: u32) -> Command {
    let mut command = carve.vm("restore");
    command.arg("--state").arg(dir.join(format!("{size}.state")));
    command.arg("--memory").arg(dir.join(format!("{size}.memory")));
    command
}

/// Milliseconds that [`WHAT`] took.
fn time(carve: &Carve, dir: &Path, size: u32) -> Result<[f64; 3]> {
    let events = dir.join("events");
    let _ = std::fs::remove_file(&events);
    let machine = Machine::start(restore(carve, dir, size).arg("--events").arg(&events))?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let times = loop {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        if let Some(times) = understand(&text) {
            break times;
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "the restored machine does not begin: {text}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    drop(machine);
    Ok(times)
}

/// Finds the events in lines of JSON.
fn understand(lines: &str) -> Option<[f64; 3]> {
    let at = |name: &str| {
        let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let event = events.into_iter().find(|event| event["event"] == name)?;
        event["ns"].as_f64().map(|ns| ns / 1e6)
    };
    let run = at("vmm.first_run")?;
    let kvm = at("vmm.kvm_opened")? - at("vmm.memory_mapped")?;
    Some([run - at("vmm.config_parsed")?, kvm, run - at("cli.start")?])
}
