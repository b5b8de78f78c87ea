//! Makes tiny guests: an ELF file around a few bytes of machine code.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "part of tests")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use vmm::{BootEvent, BuildError, Engine, RunningVm, SerialConfig, Vm, VmConfig};

#[path = "elf.rs"]
mod elf;

pub(crate) use elf::{Entry, HALT_FOR_EVER, LOOP_FOR_EVER, RESET, elf, say};

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
