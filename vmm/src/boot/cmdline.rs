//! The kernel command line: our defaults, the devices, and what the user adds, in that order so that the user
//! has the last word.

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::memory::{GuestMemory, layout};

/// What every guest gets.
///
/// - `panic=-1`: reset on panic, `reboot=k`: through the keyboard controller, which we answer at once.
/// - `random.trust_cpu=on`: the generator is seeded by RDRAND, so nothing waits for entropy.
/// - `i8042.*`: there is no keyboard or mouse behind the controller; do not wait for one.
const DEFAULTS: &str = "reboot=k panic=-1 random.trust_cpu=on i8042.noaux i8042.nokbd";
/// What our own kernel gets instead, which has the rest built in: each word costs a boot some 40,000 instructions,
/// because it is compared with every parameter there is, at each level of initialisation.
///
/// - `dummy.numdummies=0`: a dummy network card is made when somebody asks for one.
const OWN_KERNEL: &str = "dummy.numdummies=0";
/// There are no ACPI tables: do not search the BIOS area for them.
const WITHOUT_ACPI: &str = "acpi=off";
/// A serial port on the host side: talk there.
const WITH_SERIAL: &str = "console=ttyS0 8250.nr_uarts=1";
/// No serial port on the host side: do not even look for one.
const WITHOUT_SERIAL: &str = "8250.nr_uarts=0";
/// A virtio console on the host side: talk there, and have `/dev/console` there.
const WITH_HVC: &str = "console=hvc0";
/// Nobody listens: format no messages.
const WITHOUT_CONSOLE: &str = "quiet";

/// Where the kernel can talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consoles {
    /// The first serial port leads somewhere.
    pub(crate) serial: bool,
    /// There is a virtio console.
    pub(crate) hvc: bool,
}

/// A command line under construction.
#[derive(Debug, Clone)]
pub(crate) struct Cmdline(String);

impl Cmdline {
    /// The defaults for a guest with these consoles, with or without ACPI tables.
    pub(crate) fn new(consoles: Consoles, acpi: bool) -> Self {
        let mut cmdline = Self(DEFAULTS.to_owned());
        cmdline.push(if acpi { "" } else { WITHOUT_ACPI });
        let Consoles { serial, hvc } = consoles;
        cmdline.push(if serial { WITH_SERIAL } else { WITHOUT_SERIAL });
        cmdline.push(if hvc { WITH_HVC } else { "" });
        cmdline.push(if serial || hvc { "" } else { WITHOUT_CONSOLE });
        cmdline
    }

    /// The same for the kernel of `guest-images/kernel`, which looks for no serial port unless it is told of one.
    pub(crate) fn for_own_kernel(consoles: Consoles, acpi: bool) -> Self {
        let mut cmdline = Self(OWN_KERNEL.to_owned());
        cmdline.push(if acpi { "" } else { WITHOUT_ACPI });
        cmdline.push(if consoles.serial { WITH_SERIAL } else { "" });
        cmdline.push(if consoles.hvc { WITH_HVC } else { "" });
        cmdline
    }

    /// Adds parameters, separated from what is there.
    pub(crate) fn push(&mut self, parameters: &str) {
        let parameters = parameters.trim();
        if !parameters.is_empty() {
            self.0.push(' ');
            self.0.push_str(parameters);
        }
    }

    /// Announces a virtio-mmio device (kernel: drivers/virtio/virtio_mmio.c).
    pub(crate) fn push_virtio_mmio(&mut self, base: u64, irq: u32) {
        self.push(&format!("virtio_mmio.device={}K@{base:#x}:{irq}", layout::VIRTIO_MMIO_LEN >> 10));
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Length in bytes, without the terminating zero.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes it where the boot protocols point to.
    ///
    /// # Errors
    /// It is longer than `max`, or holds bytes that are not printable ASCII.
    pub(super) fn write_to(&self, memory: &GuestMemory, max: usize) -> Result<(), BootError> {
        if self.len() > max {
            return Err(BootError::CmdlineTooLong { len: self.len(), max });
        }
        if let Some((at, byte)) = self.0.bytes().enumerate().find(|(_, b)| !(0x20..0x7f).contains(b)) {
            return Err(BootError::CmdlineByte { byte, at });
        }
        memory.write_slice(self.0.as_bytes(), GuestAddress(layout::CMDLINE))?;
        memory.write_obj(0u8, GuestAddress(layout::CMDLINE + self.len() as u64))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::memory::map_guest_ram;

    const NONE: Consoles = Consoles { serial: false, hvc: false };
    const SERIAL: Consoles = Consoles { serial: true, hvc: false };

    #[test]
    fn the_user_has_the_last_word() {
        let mut cmdline = Cmdline::new(SERIAL, false);
        cmdline.push_virtio_mmio(0xd000_0000, 5);
        cmdline.push(" panic=5 ");
        cmdline.push("");
        expect!["reboot=k panic=-1 random.trust_cpu=on i8042.noaux i8042.nokbd acpi=off console=ttyS0 8250.nr_uarts=1 virtio_mmio.device=4K@0xd0000000:5 panic=5"]
            .assert_eq(&cmdline.0);
    }

    #[test]
    fn without_a_serial_port_there_is_no_console_on_one() {
        assert!(!Cmdline::new(NONE, true).0.contains("ttyS0"));
    }

    #[test]
    fn acpi_is_switched_off_where_there_are_no_tables() {
        assert!(Cmdline::new(SERIAL, false).0.contains("acpi=off"));
        assert!(!Cmdline::new(SERIAL, true).0.contains("acpi=off"));
    }

    #[test]
    fn the_kernel_is_quiet_only_where_nobody_listens() {
        let hvc = Consoles { serial: false, hvc: true };
        let both = Consoles { serial: true, hvc: true };
        for (consoles, quiet) in [(NONE, true), (SERIAL, false), (hvc, false), (both, false)] {
            let cmdline = Cmdline::new(consoles, true).0;
            assert_eq!(cmdline.contains("quiet"), quiet, "{cmdline}");
            assert_eq!(cmdline.contains("console=hvc0"), consoles.hvc, "{cmdline}");
        }
    }

    #[test]
    fn our_own_kernel_is_not_told_what_it_has_built_in() {
        expect!["dummy.numdummies=0 acpi=off"].assert_eq(&Cmdline::for_own_kernel(NONE, false).0);
        expect!["dummy.numdummies=0 console=ttyS0 8250.nr_uarts=1"]
            .assert_eq(&Cmdline::for_own_kernel(SERIAL, true).0);
    }

    #[test]
    fn what_cannot_be_passed_is_refused() {
        let memory = map_guest_ram(layout::MIB).unwrap();
        let mut cmdline = Cmdline::new(NONE, true);
        assert!(matches!(cmdline.write_to(&memory, 10), Err(BootError::CmdlineTooLong { max: 10, .. })));
        cmdline.push("a\nb");
        assert!(matches!(cmdline.write_to(&memory, 2047), Err(BootError::CmdlineByte { byte: b'\n', .. })));
    }
}
