//! Memory of the VMM's process outside of guest RAM, with a Linux of 128 MiB that uses a disk, a network card and a socket
//! device.
//!
//! The guest does a round of traffic with all three whenever the host asks for one, which it does once a second. The figure is
//! the most that was resident right after a round, once the machine is old enough to have come to rest; what was there just
//! after the boot is shown beside it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::machine::{Carve, Machine};
use super::memory::{self, Resident};
use crate::command::line;
use crate::figures::Figure;

/// Most that may be resident, in MiB.
const LIMIT_MIB: f64 = 3.0;
/// From this age on, rounds count: a VMM gives memory back when it is 1, 2, 4, 8, 16 and 32 seconds old.
const SETTLED: Duration = Duration::from_secs(34);
/// Rounds that count.
const ROUNDS: u32 = 10;
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a round may take: it is seconds where the guest's kernel is emulated.
const PATIENCE: Duration = Duration::from_secs(60);
/// The host's end of the network: the guest's other end is 10.0.0.2.
const NETWORK: &str = "ip tuntap add bench0 mode tap vnet_hdr && ip addr add 10.0.0.1/24 dev bench0 && \
    ip link set bench0 up && exec \"$@\"";
/// Where the guest waits for a round to begin.
const ASK: &[u8] = b"CONNECT 5000\n";

pub(super) fn measure(carve: &Carve) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for engine in ["kvm", "soft"] {
        let [booted, settled] = resident(carve, engine)?;
        let mut one = |name: &str, mib| figures.push(Figure::one(name, "MiB", Some(mib)));
        one(&format!("VMM outside guest RAM, {engine}, first round"), booted.own_mib);
        let name = format!("VMM outside guest RAM, {engine}, most of {ROUNDS} later rounds");
        figures.push(Figure::one(&name, "MiB", Some(settled.own_mib)).at_most(LIMIT_MIB));
        let mut one = |name: &str, mib| figures.push(Figure::one(name, "MiB", Some(mib)));
        one("  its heap, stacks and relocated tables", settled.anonymous_mib);
        one("  its code, constants and rings", settled.of_files_mib);
        one("  its share, by PSS", settled.own_share_mib);
        one("  guest RAM that was touched", settled.guest_mib);
    }
    Ok(figures)
}

/// After the first round, and the most after one of the rounds that count.
fn resident(carve: &Carve, engine: &str) -> Result<[Resident; 2]> {
    let dir = carve.guests.tiny.with_file_name("overhead");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let disk = dir.join("disk");
    let file = File::create(&disk).with_context(|| format!("cannot make {}", disk.display()))?;
    file.set_len(16 << 20).with_context(|| format!("cannot make {}", disk.display()))?;
    let socket = dir.join("vsock");
    let _ = std::fs::remove_file(&socket);
    let mut boot = carve.boot(&carve.guests.traffic, engine, 128);
    boot.arg("--disk").arg(&disk).args(["--net", "tap=bench0", "--vsock"]);
    boot.arg(&socket);
    // A network of its own: the tap goes with it.
    let mut alone = Command::new("unshare");
    alone.args(["--net", "sh", "-c", NETWORK, "sh"]).arg(boot.get_program()).args(boot.get_args());
    let started = Instant::now();
    let mut machine = Machine::start(&mut alone)?;
    machine.wait_for_mark()?;
    let after_round = || -> Result<Resident> {
        round(&socket).with_context(|| format!("{}: no traffic with the guest", line(&boot)))?;
        let resident = memory::resident(machine.vmm_pid())?;
        ensure!(resident.guest_mib > 1.0, "{}: found no guest RAM in its process", line(&boot));
        Ok(resident)
    };
    let booted = after_round()?;
    let mut most = Resident::default();
    let mut left = ROUNDS;
    while left > 0 {
        sleep(PAUSE);
        let now = after_round()?;
        if started.elapsed() >= SETTLED {
            left -= 1;
            if now.own_mib > most.own_mib {
                most = now;
            }
        }
    }
    Ok([booted, most])
}

/// Has the guest use all three devices once.
fn round(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("cannot connect to the socket device")?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot limit the time of a round")?;
    stream.write_all(ASK).context("cannot ask for the guest's port")?;
    let mut answers = BufReader::new(stream.try_clone().context("cannot duplicate the connection")?);
    let mut answer = String::new();
    answers.read_line(&mut answer).context("cannot read the device's answer")?;
    if !answer.starts_with("OK ") {
        bail!("the device answered {answer:?}");
    }
    let sent = [b'x'; 4096];
    stream.write_all(&sent).context("cannot send to the guest")?;
    let mut back = [0; 4096];
    answers.read_exact(&mut back).context("the guest did not send the page back")?;
    ensure!(back == sent, "the guest sent other bytes back");
    Ok(())
}
