//! Makes tiny guests: an ELF file around a few bytes of machine code.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "part of tests")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use vmm::{BootEvent, BuildError, Engine, RunningVm, SerialConfig, Vm, VmConfig};

/// `mov al, 0xfe; out 0x64, al; jmp $`: reset through the keyboard controller.
pub(crate) const RESET: [u8; 6] = [0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe];
/// `cli; hlt; jmp back`.
pub(crate) const HALT_FOR_EVER: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// `jmp $`.
pub(crate) const LOOP_FOR_EVER: [u8; 2] = [0xeb, 0xfe];

/// Where the code is loaded.
const CODE_AT: u32 = 0x10_0000;

/// How a guest is entered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Entry {
    /// In 64-bit mode.
    Long,
    /// By its PVH note, in 32-bit mode.
    Pvh,
}

/// Code that writes `text` to the serial port, the same in 32-bit and 64-bit mode.
pub(crate) fn say(text: &[u8]) -> Vec<u8> {
    let bytes = text.iter().flat_map(|byte| [0xb0, *byte, 0xee]);
    [0x66, 0xba, 0xf8, 0x03].into_iter().chain(bytes).collect()
}

/// Whether virtual machines can be made here; says why not.
pub(crate) fn have_kvm() -> bool {
    let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") else { return true };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: no usable /dev/kvm: {error}");
    println!("skipped {line}");
    // `cargo xtask test` collects the reasons here.
    if let Some(path) = std::env::var_os("CARVE_TEST_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    false
}

/// A guest in a directory of its own.
pub(crate) struct Guest {
    engine: Engine,
    dir: TempDir,
    events: Arc<Mutex<Vec<BootEvent>>>,
}

impl Guest {
    /// A guest that runs `code` under `engine`.
    pub(crate) fn new(engine: Engine, entry: Entry, code: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("kernel"), elf(entry, code)).unwrap();
        Self { engine, dir, events: Arc::default() }
    }

    /// Starts it with 4 MiB of memory.
    pub(crate) fn start(&self) -> RunningVm {
        self.try_start().unwrap()
    }

    /// Starts it with 4 MiB of memory, if that can be done.
    pub(crate) fn try_start(&self) -> Result<RunningVm, BuildError> {
        self.try_start_with(|_| {})
    }

    /// The same with a machine that `change` has changed.
    pub(crate) fn try_start_with(&self, change: impl FnOnce(&mut VmConfig)) -> Result<RunningVm, BuildError> {
        let mut config = VmConfig::new(self.dir.path().join("kernel"), 4);
        config.engine = self.engine;
        config.serial = SerialConfig::File(self.dir.path().join("serial"));
        change(&mut config);
        Vm::build(&config, self.events.clone())?.start()
    }

    /// What it has written so far.
    pub(crate) fn serial_output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("serial")).unwrap()
    }

    /// What has happened so far.
    pub(crate) fn events(&self) -> Vec<BootEvent> {
        self.events.lock().unwrap().clone()
    }
}

/// A test of every function named, under each engine: `kvm::NAME` and `soft::NAME`.
macro_rules! under_each_engine {
    ($($name:ident),* $(,)?) => {
        crate::tiny::under! { kvm, Kvm, $($name),* }
        crate::tiny::under! { soft, Soft, $($name),* }
    };
}

/// A test of every function named, under one engine, in a module of that name.
macro_rules! under {
    ($module:ident, $engine:ident, $($name:ident),*) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    if crate::tiny::have_kvm() {
                        super::$name(vmm::Engine::$engine);
                    }
                }
            )*
        }
    };
}

pub(crate) use {under, under_each_engine};

fn elf(entry: Entry, code: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(CODE_AT.to_le_bytes());

    let segment = |kind: u32, offset: usize, len: usize| {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        for value in [offset as u64, CODE_AT.into(), CODE_AT.into(), len as u64, len as u64, 4] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let segments = if entry == Entry::Pvh { 2u16 } else { 1 };
    let note_at = 64 + 56 * usize::from(segments);
    let code_at = note_at + note.len();

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for value in [u64::from(CODE_AT), 64, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64, 56, segments, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(segment(1, code_at, code.len()));
    if entry == Entry::Pvh {
        file.extend(segment(4, note_at, note.len()));
    }
    file.extend(note);
    file.extend(code);
    file
}
