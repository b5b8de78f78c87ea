//! A guest of a few instructions: whether a machine starts, its serial port works, and it ends; and what that costs
//! without any kernel.

use std::fs;
use std::time::Duration;

use super::machine::carve;
use super::report::Check;
use super::site::Site;

/// What the guest prints.
const MARK: u8 = b'R';
/// `mov dx, 0x3f8; mov al, MARK; out dx, al; mov al, '\n'; out dx, al`, then a reset by keyboard controller:
/// `mov al, 0xfe; out 0x64, al; hlt`.
const CODE: [u8; 15] =
    [0x66, 0xba, 0xf8, 0x03, 0xb0, MARK, 0xee, 0xb0, b'\n', 0xee, 0xb0, 0xfe, 0xe6, 0x64, 0xf4];
/// Where it is loaded.
const CODE_AT: u64 = 0x10_0000;
/// Bytes of the file's headers.
const HEADERS: u64 = 64 + 56;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it in a jail, to its end.
pub(super) fn check(engine: &'static str, site: &Site) -> Check {
    let mut took = Duration::ZERO;
    let finding = run(engine, site, &mut took);
    Check::new(
        engine,
        "tiny guest",
        finding.map(|()| "from the command to its first output; jailed".to_owned()),
    )
    .took(took)
}

fn run(engine: &str, site: &Site, took: &mut Duration) -> Result<(), String> {
    let file = site.dir().join("tiny.elf");
    fs::write(&file, elf()).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let mut boot = carve(&["vm", "boot", "--engine", engine, "--memory", "16", "--kernel"]);
    let mut machine = site.start(boot.arg(file))?;
    machine.wait_for(PATIENCE, |line| (line.as_bytes().first() == Some(&MARK)).then_some(()))?;
    *took = machine.age();
    machine.wait(PATIENCE)
}

/// An ELF file of one loaded segment, which starts by the 64-bit boot protocol.
fn elf() -> Vec<u8> {
    let length = CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([CODE_AT, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 5].map(u32::to_le_bytes).concat());
    file.extend([HEADERS, CODE_AT, CODE_AT, length, length, 4096].map(u64::to_le_bytes).concat());
    file.extend(CODE);
    file
}
