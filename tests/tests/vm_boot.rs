//! `carve vm boot`: a virtual machine without an image.

use std::time::Duration;

use tests::{Engine, Host, initramfs_with, kernel, kernel_of, wait_at_most};

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

/// One boot, as it takes about a minute where there is no hardware assistance, and several on a busy host.
#[test]
fn a_guest_with_two_cpus_runs_programs_on_both_under_kvm() {
    let Some(host) = Host::for_vms_with(Engine::Kvm) else { return };
    // As few processes as say it: each takes seconds there.
    let script = "echo CPUs: $(/bin/busybox nproc)\n\
                  for cpu in 0 1; do /bin/busybox taskset $((1 << cpu)) /bin/busybox true && echo ran on CPU $cpu; done\n\
                  /bin/busybox poweroff -f";
    let initrd = initramfs_with(&host.path(""), script);
    let (kernel, initrd) = (kernel().unwrap(), initrd.to_str().unwrap().to_owned());
    let boot = ["vm", "boot", "--cpus", "2", "--memory", "64", "--cmdline", "quiet", "--initrd", &initrd];
    let mut boot = host.start(&[&boot[..], &["--kernel", kernel.to_str().unwrap()]].concat());
    wait_at_most(Duration::from_secs(540), "the guest powers off", || boot.ended());
    let output = boot.wait();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for what in ["CPUs: 2", "ran on CPU 0", "ran on CPU 1"] {
        assert!(said.contains(what), "no {what:?} in {said}");
    }
}

#[test]
fn more_cpus_than_the_software_engine_runs_are_refused_with_what_helps() {
    let Some(host) = Host::for_vms_with(Engine::Soft) else { return };
    let kernel = kernel().unwrap();
    let error = host.fails(125, &["vm", "boot", "--cpus", "2", "--kernel", kernel.to_str().unwrap()]);
    assert!(error.contains("2 vCPUs were asked for") && error.contains("--engine kvm"), "{error}");
}

#[test]
fn a_guest_that_dies_is_an_error_that_names_the_place() {
    let Some(host) = Host::for_vms() else { return };
    std::fs::write(host.path("map"), "0000000000100000 T faults\n0000000000200000 B _end\n").unwrap();
    let (elf, map) = (host.path("kernel.elf"), host.path("map"));
    let boot = ["vm", "boot", "--kernel", elf.to_str().unwrap(), "--memory", "16", "--engine", "soft"];
    // nop; ud2: no kernel at all, without a table to handle its fault.
    std::fs::write(&elf, kernel_of(&[0x90, 0x0f, 0x0b])).unwrap();
    let error = host.fails(125, &boot);
    assert!(error.starts_with("carve: the guest died: triple fault at 0x100001 (64-bit mode"), "{error}");
    let with_symbols = [&boot[..], &["--symbols", map.to_str().unwrap()]].concat();
    let error = host.fails(125, &with_symbols);
    assert!(
        error.contains("triple fault at 0x100001 in faults+0x1 (64-bit mode, ring 0), bytes [0f, 0b"),
        "{error}"
    );
    // nop; aesenc xmm0, xmm1, which the interpreter does not know.
    std::fs::write(&elf, kernel_of(&[0x90, 0x66, 0x0f, 0x38, 0xdc, 0xc1])).unwrap();
    let error = host.fails(125, &with_symbols);
    assert!(error.contains("does not know"), "{error}");
    assert!(
        error.contains("at 0x100001 in faults+0x1 (64-bit mode, ring 0), bytes [66, 0f, 38, dc, c1"),
        "{error}"
    );
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
