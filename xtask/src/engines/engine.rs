//! What runs the virtual machine: the same kernel, initramfs, RAM and CPU by each.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::workload::Workload;

/// RAM of the machine, in MiB.
const MEMORY_MIB: &str = "128";
/// The words that `carve vm boot` gives to a kernel on the software engine, for QEMU; but for the way to reset: QEMU's microvm has no
/// keyboard controller, it ends when the CPU gives up.
const QEMU_CMDLINE: &str = "reboot=t panic=-1 random.trust_cpu=on acpi=off i8042.noaux i8042.nokbd console=ttyS0 \
                            8250.nr_uarts=1 mitigations=off noreplace-smp percpu_alloc=page rodata=off";
/// The rest of the machine, QEMU's smallest.
const QEMU_MACHINE: [&str; 13] = [
    "-M",
    "microvm,x-option-roms=off",
    "-accel",
    "tcg",
    "-smp",
    "1",
    "-nodefaults",
    "-no-user-config",
    "-nographic",
    "-no-reboot",
    "-serial",
    "stdio",
    "-m",
];
/// QEMU's name.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// What runs a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    /// carve's software engine.
    Soft,
    /// carve on KVM alone.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Engine {
    /// What the report calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Soft => "carve, soft",
            Self::Kvm => "carve, kvm",
            Self::Tcg => "QEMU, TCG",
        }
    }

    /// How long a run may take before it counts as hanging. Without hardware assistance KVM takes a second and more
    /// for each of the forks.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Soft | Self::Tcg => Duration::from_secs(120),
            Self::Kvm => Duration::from_secs(1200),
        }
    }
}

/// The files that all engines run.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) carve: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl Files {
    /// The command that runs a workload on an engine.
    pub(crate) fn command(&self, engine: Engine, workload: Workload) -> Command {
        match engine {
            Engine::Soft => self.carve("boot", Some("soft"), workload),
            Engine::Kvm => self.carve("boot", Some("kvm"), workload),
            Engine::Tcg => self.qemu(workload),
        }
    }

    /// The command that counts what the interpreter does.
    pub(crate) fn profile(&self, workload: Workload) -> Command {
        let mut command = self.carve("profile", None, workload);
        command.arg("--json");
        command
    }

    fn carve(&self, verb: &str, engine: Option<&str>, workload: Workload) -> Command {
        let mut command = Command::new(&self.carve);
        command.args(["vm", verb, "--memory", MEMORY_MIB, "--kernel"]).arg(&self.kernel);
        command.arg("--initrd").arg(&self.initramfs);
        command.args(engine.map(|engine| ["--engine", engine]).into_iter().flatten());
        command.arg("--cmdline").arg(format!("quiet {}", workload.cmdline()));
        command
    }

    fn qemu(&self, workload: Workload) -> Command {
        let mut command = Command::new(QEMU);
        command.args(QEMU_MACHINE).arg(MEMORY_MIB).arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initramfs);
        command.arg("-append").arg(format!("{QEMU_CMDLINE} quiet {}", workload.cmdline()));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::line;

    fn files() -> Files {
        Files { carve: "carve".into(), kernel: "vmlinux".into(), initramfs: "cpio".into() }
    }

    #[test]
    fn carve_is_told_the_engine_and_the_workload() {
        assert_eq!(
            line(&files().command(Engine::Soft, Workload::Getpid)),
            "carve vm boot --memory 128 --kernel vmlinux --initrd cpio --engine soft \
             --cmdline quiet workload=getpid count=100000"
        );
    }

    #[test]
    fn qemu_gets_the_same_machine_and_ends_at_a_reset() {
        assert_eq!(
            line(&files().command(Engine::Tcg, Workload::Boot)),
            "qemu-system-x86_64 -M microvm,x-option-roms=off -accel tcg -smp 1 -nodefaults -no-user-config -nographic \
             -no-reboot -serial stdio -m 128 -kernel vmlinux -initrd cpio -append reboot=t panic=-1 \
             random.trust_cpu=on acpi=off i8042.noaux i8042.nokbd console=ttyS0 8250.nr_uarts=1 \
             mitigations=off noreplace-smp percpu_alloc=page rodata=off quiet workload=boot count=1"
        );
    }
}
