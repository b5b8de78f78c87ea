//! The guests: one of a few instructions, a Linux that does nothing, and one that uses its devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::cpio::{Entry, archive};
use crate::workspace;

/// Where Debian's busybox-static is.
const BUSYBOX: &str = "/bin/busybox";
/// Says that it runs, and then sleeps.
const INIT: &str = "#!/busybox sh\necho READY\nexec /busybox sleep 1000000\n";
/// What all guests print first.
pub(super) const MARK: u8 = b'R';

/// In 32-bit protected mode: `mov dx, 0x3f8; mov al, 'R'; out dx, al; mov al, '\n'; out dx, al`, then reset by keyboard
/// controller (`mov al, 0xfe; out 0x64, al`), and where there is none by `lidt [0]; int3`: no handler, a triple fault.
const CODE: [u8; 22] = [
    0x66, 0xba, 0xf8, 0x03, 0xb0, MARK, 0xee, 0xb0, b'\n', 0xee, 0xb0, 0xfe, 0xe6, 0x64, 0x0f, 0x01, 0x1d, 0,
    0, 0, 0, 0xcc,
];
/// Where the code is loaded.
const CODE_AT: u32 = 0x10_0000;

/// The files.
#[derive(Debug)]
pub(super) struct Guests {
    /// An ELF file with a PVH note.
    pub(super) tiny: PathBuf,
    /// An initramfs for the guest kernel.
    pub(super) idle: PathBuf,
    /// Another, whose program does what `guest-images/vmm-bench` says.
    pub(super) traffic: PathBuf,
}

/// Writes them to `target/vmm-bench`.
pub(super) fn build() -> Result<Guests> {
    let out = workspace::target("vmm-bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |name: &str, bytes: Vec<u8>| {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let busybox = fs::read(Path::new(BUSYBOX)).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let files = [
        Entry { name: "init", mode: 0o755, data: INIT.as_bytes() },
        Entry { name: "busybox", mode: 0o755, data: &busybox },
    ];
    let idle = archive(&files).context("the guest's programs are too large for an initramfs")?;
    let traffic = archive(&[Entry { name: "init", mode: 0o755, data: &traffic(&out)? }])
        .context("the guest's program is too large for an initramfs")?;
    Ok(Guests {
        tiny: write("tiny.elf", tiny())?,
        idle: write("idle.cpio", idle)?,
        traffic: write("traffic.cpio", traffic)?,
    })
}

/// Compiles the program that uses the devices.
fn traffic(out: &Path) -> Result<Vec<u8>> {
    let program = out.join("traffic");
    let source = workspace::root().join("guest-images/vmm-bench/traffic.c");
    run(Command::new("cc").args(["-O2", "-Wall", "-static", "-s", "-o"]).arg(&program).arg(source))?;
    fs::read(&program).with_context(|| format!("cannot read {}", program.display()))
}

/// An ELF file of one loaded segment and one note, which names the entry point (Xen's `XEN_ELFNOTE_PHYS32_ENTRY`).
fn tiny() -> Vec<u8> {
    let mut note: Vec<u8> = [4u32, 4, 18].iter().flat_map(|word| word.to_le_bytes()).collect();
    note.extend(b"Xen\0");
    note.extend(CODE_AT.to_le_bytes());
    let note_at = 64 + 2 * 56u64;
    let code_at = note_at + note.len() as u64;
    let segment = |kind: u32, offset: u64, len: usize| {
        let mut bytes = [kind.to_le_bytes(), 7u32.to_le_bytes()].concat();
        for value in [offset, CODE_AT.into(), CODE_AT.into(), len as u64, len as u64, 4] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2u16.to_le_bytes(), 62u16.to_le_bytes()].concat());
    file.extend(1u32.to_le_bytes());
    for value in [u64::from(CODE_AT), 64, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64u16, 56, 2, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(segment(1, code_at, CODE.len()));
    file.extend(segment(4, note_at, note.len()));
    file.extend(note);
    file.extend(CODE);
    file
}
