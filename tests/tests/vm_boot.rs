//! `carve vm boot`: a virtual machine without an image.

use tests::{Host, initramfs_with, kernel};

#[test]
fn boots_a_kernel_to_a_shell_script_with_a_disk_and_ends_with_the_guest() {
    let Some(host) = Host::for_vms() else { return };
    let kernel = kernel().unwrap();
    let disk = host.path("disk.img");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let script = "/bin/busybox mount -t devtmpfs dev /dev\n/bin/busybox echo written by the guest | \
                  /bin/busybox dd of=/dev/vda conv=fsync 2>/dev/null\n/bin/busybox echo init says hello\n\
                  while read -t 60 line; do [ \"$line\" = typed ] && break; done; /bin/busybox echo init was told: $line\n\
                  /bin/busybox poweroff -f";
    let initrd = initramfs_with(&host.path(""), script);
    // A kernel drops what was typed before it opened the port.
    let typed = host.path("typed");
    std::fs::write(&typed, "\n\n\n\n\n\ntyped\n").unwrap();
    let mut boot = host.carve(&["vm", "boot", "--kernel", kernel.to_str().unwrap(), "--memory", "128"]);
    boot.arg("--initrd").arg(initrd).arg("--disk").arg(&disk);
    let output = boot.stdin(std::fs::File::open(typed).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("init says hello"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("init was told: typed"), "{output:?}");
    assert!(std::fs::read(&disk).unwrap().starts_with(b"written by the guest\n"));
}

#[test]
fn a_guest_that_dies_is_an_error_with_a_message() {
    let Some(host) = Host::for_vms() else { return };
    // No kernel at all: one that faults at its first instruction, with no table to handle it.
    let elf = host.path("ud2.elf");
    std::fs::write(&elf, faulting_elf()).unwrap();
    let error = host.fails(125, &["vm", "boot", "--kernel", elf.to_str().unwrap(), "--memory", "16"]);
    assert!(error.contains("guest"), "{error}");
}

#[test]
fn refuses_what_is_not_there_or_not_what_it_should_be() {
    let Some(host) = Host::for_vms() else { return };
    let text = host.path("text");
    std::fs::write(&text, "this is not a kernel").unwrap();
    let text = text.to_str().unwrap().to_owned();
    let boot = |args: &[&str]| host.fails(125, &[&["vm", "boot"], args].concat());
    assert!(boot(&["--kernel", "/no/such/file"]).contains("/no/such/file"));
    assert!(boot(&["--kernel", &text]).contains(&text));
    let kernel = kernel().unwrap();
    let kernel = kernel.to_str().unwrap();
    assert!(boot(&["--kernel", kernel, "--disk", "/no/such/disk"]).contains("/no/such/disk"));
    assert!(boot(&["--kernel", kernel, "--initrd", "/no/such/initrd"]).contains("/no/such/initrd"));
}

/// An ELF for the 64-bit boot protocol whose only instruction is `ud2`.
fn faulting_elf() -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    const CODE: u64 = 120;
    let mut elf = Vec::new();
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([2u16, 62].map(u16::to_le_bytes).concat());
    elf.extend(1u32.to_le_bytes());
    elf.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1u32, 5].map(u32::to_le_bytes).concat());
    elf.extend([CODE, ENTRY, ENTRY, 2, 2, 4096].map(u64::to_le_bytes).concat());
    elf.extend([0x0f, 0x0b]);
    elf
}
