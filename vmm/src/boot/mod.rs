//! From a kernel file to a guest that can start: reads the kernel into guest memory, describes the machine to
//! it, and says where the first instruction is.
//!
//! `kernel` finds out what the file is and loads it (`elf`, `bzimage` with `decompress`, both reading from an
//! `image_source`); `cmdline`, `initrd`, `mp_table`, `acpi` and then either `zero_page` (64-bit Linux boot protocol) or
//! `pvh` describe the machine. The result is an [`Entry`], which says nothing about KVM.

mod acpi;
mod bzimage;
mod cmdline;
mod decompress;
mod elf;
mod image_source;
mod initrd;
mod kernel;
mod lz4;
mod mp_table;
mod pvh;
mod zero_page;

use std::path::{Path, PathBuf};

use crate::memory::GuestMemory;
use crate::memory::layout;

pub(crate) use cmdline::{Cmdline, Consoles};
pub(crate) use kernel::{Kernel, load_kernel};

/// How the first instruction is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// 64-bit mode with the low GiB mapped one to one, RSI = address of `boot_params`
    /// (Documentation/x86/boot.rst, "64-bit Boot Protocol").
    Long {
        /// First instruction.
        rip: u64,
    },
    /// 32-bit protected mode without paging, EBX = address of the start info
    /// (Xen's docs/misc/pvh.pandoc).
    Pvh {
        /// First instruction.
        eip: u32,
    },
}

/// What the tables say of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    /// Whether there are ACPI tables at all. Without, the virtio devices are on the command line.
    pub(crate) acpi: bool,
    /// Processors, whose APIC ids count from 0.
    pub(crate) cpus: u32,
    /// Whether there is a PIC beside the I/O APIC.
    pub(crate) pic: bool,
    /// Whether the first serial port is there.
    pub(crate) serial: bool,
    /// Base address and interrupt of each virtio device.
    pub(crate) virtio: Vec<(u64, u32)>,
}

/// Why a guest cannot be booted from these files.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file that cannot be read.
    #[error("cannot read {what} {path}: {source}")]
    Read {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a kernel: expected an x86-64 ELF vmlinux or a bzImage, found {found}")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// The file is a kernel, but a broken one.
    #[error("the kernel {path} is damaged or not supported: {what}")]
    BadKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A bzImage packed in a way that is not unpacked here.
    #[error(
        "the kernel {path} is compressed with {name}; gzip, xz, zstd and lz4 are supported: rebuild it, or unpack it with scripts/extract-vmlinux of the kernel source"
    )]
    Compression {
        /// The file.
        path: PathBuf,
        /// Name of the compression.
        name: String,
    },
    /// Kernel or initrd is larger than the guest's memory.
    #[error(
        "{what} {path} does not fit into the guest's memory: it needs {needed:#x} to be RAM, low RAM ends at {end:#x}; give the guest more memory"
    )]
    DoesNotFit {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Guest physical address that would have to exist.
        needed: u64,
        /// End of the guest's low RAM.
        end: u64,
    },
    /// The command line is longer than the kernel or the VMM accepts.
    #[error("the kernel command line has {len} bytes, this kernel takes {max}; shorten what --cmdline adds")]
    CmdlineTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The command line holds something that cannot be passed.
    #[error("the kernel command line must be printable ASCII on one line: byte {byte:#04x} at {at}")]
    CmdlineByte {
        /// The offending byte.
        byte: u8,
        /// Its position.
        at: usize,
    },
    /// Boot structures could not be written.
    #[error("the guest's memory is too small for the boot structures: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Describes the machine with `hardware` to a loaded `kernel`: command line, initrd, tables and memory map.
///
/// # Errors
/// The initrd cannot be read or does not fit, or the command line is too long.
pub(crate) fn describe_machine(
    memory: &GuestMemory,
    memory_bytes: u64,
    kernel: &Kernel,
    initrd: Option<&Path>,
    cmdline: &Cmdline,
    hardware: &Hardware,
) -> Result<Entry, BootError> {
    cmdline.write_to(memory, kernel.cmdline_max())?;
    mp_table::write_to(memory, hardware)?;
    let root_pointer = if hardware.acpi {
        acpi::write_to(memory, hardware)?;
        layout::ACPI_TABLES
    } else {
        0
    };
    let initrd = match initrd {
        Some(path) => Some(initrd::load(memory, memory_bytes, kernel.end, path)?),
        None => None,
    };
    let ram = layout::usable_ram(memory_bytes);
    match kernel.entry {
        Entry::Long { .. } => {
            zero_page::write_to(memory, &ram, kernel.header.as_ref(), cmdline.len(), initrd, root_pointer)?
        }
        Entry::Pvh { .. } => pvh::write_to(memory, &ram, initrd, root_pointer)?,
    }
    Ok(kernel.entry)
}
