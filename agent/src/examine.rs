//! Examines the machine from within, for `carve doctor --vm`: see [`agent::self_test`].

use std::fs::{File, OpenOptions, read_to_string};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::protocol::{HOST_CID, Network};
use agent::self_test::{BLOCK, GUEST, HOST, Line, PREFIX, VSOCK_PORT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::net::{RecvFlags, recv};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::Timespec;

use crate::mounts::Dev;
use crate::sys::vsock;
use crate::{log, mounts, network, reseed};

/// A name, and what finds out.
type Check = (&'static str, fn() -> Result<String, String>);

/// In this order: the interrupts are those of the checks before them.
const CHECKS: [Check; 7] = [
    ("cpus", cpus),
    ("timers", timers),
    ("disk", disk),
    ("entropy", entropy),
    ("vsock", vsock_answers),
    ("network", network_answers),
    ("interrupts", interrupts),
];

const PAUSE: Duration = Duration::from_millis(5);
const PAUSES: u32 = 20;
/// Between two ticks, and how many there are: a machine that nobody watches any more ends by itself.
const TICK: Duration = Duration::from_millis(100);
const TICKS: u64 = 3000;
/// Nobody on the host listens there, and its answer says so.
const CLOSED_PORT: u16 = 9;
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the checks, then ticks.
pub(crate) fn run() {
    if let Err(error) = examine() {
        log::say(&format!("cannot examine this machine: {error}"));
    }
}

fn examine() -> Result<(), String> {
    mounts::early(&Dev::Kernel).map_err(|e| e.to_string())?;
    let mut console =
        OpenOptions::new().write(true).open("/dev/console").map_err(|e| format!("no console: {e}"))?;
    let mut say = |line: Line| writeln!(console, "{line}").map_err(|e| e.to_string());
    let has_card = Path::new("/sys/class/net/eth0").exists();
    for (name, check) in CHECKS.into_iter().filter(|(name, _)| has_card || *name != "network") {
        let start = Instant::now();
        let finding = check();
        let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        say(Line::Check { name: name.to_owned(), finding, took_us })?;
    }
    let mut life = Life::begin();
    for number in 1..=TICKS {
        if life.goes_on_as_a_copy_within(TICK) {
            let start = Instant::now();
            let finding = reseed_generator();
            let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            say(Line::Check { name: "reseed".to_owned(), finding, took_us })?;
            life = Life::begin();
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        say(Line::Tick { number, wall_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) })?;
    }
    Ok(())
}

/// The connection by whose end the guest learns that it goes on from a snapshot, where the host has taken it.
struct Life(Option<OwnedFd>);

impl Life {
    fn begin() -> Self {
        Self(vsock::connect(HOST_CID, VSOCK_PORT).ok())
    }

    /// Waits, and says whether the machine was restored meanwhile.
    fn goes_on_as_a_copy_within(&mut self, time: Duration) -> bool {
        let Some(socket) = &self.0 else {
            sleep(time);
            return false;
        };
        let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        let said = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time));
        if said != Ok(1) {
            return false;
        }
        let mut byte = [0];
        match recv(socket, &mut byte, RecvFlags::DONTWAIT) {
            Err(error) if reseed::is_sign_of_a_copy(error) => true,
            // The host has left, or says what nobody asked for.
            _ => {
                self.0 = None;
                false
            }
        }
    }
}

/// Draws a number before and after.
fn reseed_generator() -> Result<String, String> {
    let before = random_number()?;
    let bytes = reseed::reseed().map_err(|e| e.to_string())?;
    let after = random_number()?;
    Ok(format!("{after:016x} instead of {before:016x}, with {bytes} bytes of the host's"))
}

fn random_number() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|e| format!("cannot draw a number: {e}"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Runs on each processor in turn.
fn cpus() -> Result<String, String> {
    let all = sched_getaffinity(None).map_err(|e| format!("cannot ask for them: {e}"))?;
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).map_err(|e| format!("cannot run on CPU {cpu}: {e}"))?;
        let runs_on = sched_getcpu();
        if runs_on != cpu {
            return Err(format!("runs on CPU {runs_on} instead of {cpu}"));
        }
    }
    sched_setaffinity(None, &all).map_err(|e| format!("cannot run on all of them again: {e}"))?;
    Ok(format!("{}, ran on each", all.count()))
}

fn timers() -> Result<String, String> {
    let start = Instant::now();
    (0..PAUSES).for_each(|_| sleep(PAUSE));
    let (took, least) = (start.elapsed(), PAUSE * PAUSES);
    let finding = format!("{PAUSES} pauses of {} ms took {} ms", PAUSE.as_millis(), took.as_millis());
    if (least..least * 50).contains(&took) { Ok(finding) } else { Err(finding) }
}

/// Memory that direct I/O takes.
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// Reads a block, writes another one, flushes and reads that again, all past the page cache.
fn disk() -> Result<String, String> {
    let mut options = OpenOptions::new();
    // The bits of a direct, exclusive open.
    let flags = OFlags::DIRECT.union(OFlags::EXCL).bits().cast_signed();
    let disk = options.read(true).write(true).custom_flags(flags).open("/dev/vda");
    let disk = disk.map_err(|e| format!("cannot open /dev/vda: {e}"))?;
    let mut block = Box::new(Block([0; BLOCK]));
    disk.read_exact_at(&mut block.0, 0).map_err(|e| format!("cannot read: {e}"))?;
    block.0.iter_mut().for_each(|byte| *byte = !*byte);
    disk.write_all_at(&block.0, BLOCK as u64).map_err(|e| format!("cannot write: {e}"))?;
    disk.sync_all().map_err(|e| format!("cannot flush: {e}"))?;
    let mut again = Box::new(Block([0; BLOCK]));
    disk.read_exact_at(&mut again.0, BLOCK as u64).map_err(|e| format!("cannot read again: {e}"))?;
    if again.0 == block.0 {
        Ok("read, write, flush".to_owned())
    } else {
        Err("what was written is not what is read".to_owned())
    }
}

fn entropy() -> Result<String, String> {
    let mut bytes = [0; 32];
    let mut device = File::open("/dev/hwrng").map_err(|e| format!("cannot open /dev/hwrng: {e}"))?;
    device.read_exact(&mut bytes).map_err(|e| format!("cannot read: {e}"))?;
    if bytes == [0; 32] {
        return Err("nothing but zeroes".to_owned());
    }
    Ok(format!("{} bytes", bytes.len()))
}

/// Connects to where nobody listens: that the refusal arrives takes a packet in each direction.
fn vsock_answers() -> Result<String, String> {
    match vsock::connect(HOST_CID, CLOSED_PORT.into()) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok("the host answers".to_owned()),
        Err(error) => Err(format!("instead of a reset: {error}")),
        Ok(_) => Err("a port where nobody listens takes connections".to_owned()),
    }
}

/// As over vsock; before that, the host's card has to be asked for and has to answer (ARP).
fn network_answers() -> Result<String, String> {
    let network = Network { address: GUEST, prefix: PREFIX, gateway: HOST, mtu: 1500 };
    network::set_up(Some(&network)).map_err(|e| e.to_string())?;
    match TcpStream::connect_timeout(&SocketAddr::from((HOST, CLOSED_PORT)), PATIENCE) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Ok("the host answers: ARP, TCP".to_owned())
        }
        Err(error) => Err(format!("instead of a refusal: {error}")),
        Ok(_) => Err("a port where nobody listens takes connections".to_owned()),
    }
}

fn interrupts() -> Result<String, String> {
    let table =
        read_to_string("/proc/interrupts").map_err(|e| format!("cannot read /proc/interrupts: {e}"))?;
    let (devices, timer) = count(&table);
    let finding = format!("{devices} of devices, {timer} of timers");
    if devices > 0 && timer > 0 { Ok(finding) } else { Err(finding) }
}

/// Interrupts of virtio devices and of timers in the kernel's table, on all processors.
fn count(table: &str) -> (u64, u64) {
    let (mut devices, mut timers) = (0, 0);
    for line in table.lines() {
        let (name, rest) = line.split_once(':').unwrap_or_default();
        let sum: u64 = rest.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum();
        if line.contains("virtio") {
            devices += sum;
        } else if name.trim() == "LOC" || line.ends_with("timer") {
            timers += sum;
        }
    }
    (devices, timers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_counted_on_all_processors() {
        let table = "           CPU0       CPU1       \n  0:         11          0   IO-APIC   2-edge      timer\n  \
                     4:          9          0   IO-APIC   4-edge      ttyS0\n  5:         20          3   IO-APIC   5-edge      virtio0\n  \
                     6:          1          0   IO-APIC   6-edge      virtio1\nNMI:          0          0   Non-maskable interrupts\n\
                     LOC:        100        200   Local timer interrupts\n";
        assert_eq!(count(table), (24, 311));
        assert_eq!(count(""), (0, 0));
    }
}
