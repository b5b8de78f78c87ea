//! Puts what a machine at work runs next to each other in the binary.
//!
//! One binary is everything, and a VMM that has come to rest runs some hundredths of it. The kernel maps 64 KiB
//! around each page of code that is touched, so code that is spread over the binary costs a VMM several times what it
//! needs. Therefore the linker is given the order, by Rust's paths: in names of functions they are what does not change
//! from one compiler to the next. What has another name some day is found elsewhere in the binary and costs memory, no more.
//! `cargo xtask vmm-bench overhead` tells how much.

use std::path::PathBuf;
use std::{env, error, fs};

/// Objects of the C library: memory, and the system calls that the loops make.
const C_LIBRARY: [&str; 30] = [
    "mem*",
    "malloc",
    "brk",
    "sbrk",
    "mmap*",
    "mremap",
    "munmap",
    "madvise",
    "read*",
    "write*",
    "pread*",
    "pwrite*",
    "close",
    "accept*",
    "recv*",
    "send*",
    "shutdown",
    "epoll*",
    "poll",
    "ioctl",
    "syscall",
    "clock_gettime",
    "cancellation",
    "lowlevellock",
    "errno*",
    "allocrtsig",
    "sigaction",
    "libc_sigaction",
    "pthread_kill",
    "sched_yield",
];

/// Functions, by how their paths begin or what is in them: what all machines use, then the software engine's, of which the
/// rarest instructions come last.
const CODE: [&str; 87] = [
    "___rust_alloc",
    "___rust_dealloc",
    "___rust_realloc",
    "alloc::raw_vec",
    "alloc::collections::vec_deque",
    "alloc::fmt",
    "fmt::Write::write_str",
    "hashbrown::map",
    "core::hash",
    "hash::random",
    "filter_map_try_fold",
    "fmt::write",
    "fmt::num::imp",
    "Formatter::pad_integral",
    "str::converts::from_utf8",
    "std::io::error",
    "io::Write::write",
    "io::Write::write_all",
    "std::time",
    "unix::time",
    "UnixStream::shutdown",
    "futex",
    "event_manager",
    "vm_memory",
    "virtio_queue",
    "VcpuFd",
    "__rust_begin_short_backtrace",
    "vmm::bus",
    "vmm::interrupt",
    "vmm::virtio::mmio",
    "vmm::virtio::virtqueue",
    "vmm::virtio::segments",
    "vmm::virtio::interrupt",
    "vmm::virtio::rate_limit",
    "vmm::virtio::attach",
    "vmm::virtio::net",
    "vmm::virtio::vsock",
    "vmm::virtio::block",
    "vmm::sys::file_ring",
    "vmm::sys::tsc",
    "vmm::machine::event_thread",
    "vmm::machine::settling",
    "vmm::machine::vcpus",
    "vmm::cpu::thread",
    "vmm::cpu::halt_watch",
    "vmm::cpu::page_walk",
    "vmm::kvm::cpu",
    "vmm::kvm::kick",
    "vmm::kvm::without_hardware",
    "iced_x86::decoder",
    "iced_x86::info",
    "iced_x86::instruction",
    "vmm::kvm::ring3",
    "vmm::soft::access",
    "vmm::soft::attention",
    "vmm::soft::clock",
    "vmm::soft::code",
    "vmm::soft::cpu",
    "vmm::soft::delivery",
    "vmm::soft::descriptors",
    "vmm::soft::engine",
    "vmm::soft::flags",
    "vmm::soft::gate",
    "vmm::soft::interpreter",
    "vmm::soft::interrupts",
    "vmm::soft::mmu",
    "vmm::soft::msrs",
    "vmm::soft::segments",
    "vmm::soft::ops::translate",
    "vmm::soft::ops::alu",
    "vmm::soft::ops::data",
    "vmm::soft::ops::branch",
    "vmm::soft::ops::stack",
    "vmm::soft::ops::condition",
    "vmm::soft::ops::flag_ops",
    "vmm::soft::ops::hints",
    "vmm::soft::ops::extended",
    "vmm::soft::ops::multiply",
    "vmm::soft::ops::divide",
    "vmm::soft::ops::atomic",
    "vmm::soft::ops::string",
    "vmm::soft::ops::system",
    "vmm::soft::ops::bit_test",
    "vmm::soft::ops::bits",
    "vmm::soft::ops::shift",
    "vmm::soft::ops",
    "vmm::soft",
];

/// Crates whose constants are. They have no paths in their names.
const CONSTANTS: [&str; 5] = ["vmm", "iced_x86", "event_manager", "alloc", "core"];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    // Only there does it matter, and it takes the linker longer.
    if is_linux && env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let script = PathBuf::from(env::var("OUT_DIR")?).join("order.ld");
        fs::write(&script, order())?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}

/// A script that adds to what the linker does without (the manuals of ld and lld, `INSERT`). Of two lines that a function
/// matches, the first counts.
fn order() -> String {
    let mut code = String::new();
    for object in C_LIBRARY {
        code += &format!("    *libc.a:{object}.o(.text .text.*)\n");
    }
    code += "    *libgcc.a:_u*div*.o(.text)\n";
    for path in CODE {
        code += &format!("    *(.text.*{}* .text.*{}*)\n", nested(path), path.replace("::", ".."));
    }
    let mut constants = String::new();
    for crate_name in CONSTANTS {
        constants += &format!("    *.{crate_name}-*(.rodata .rodata.*)\n");
    }
    format!(
        "SECTIONS\n{{\n  .text.machine :\n  {{\n{code}  }}\n}}\nINSERT BEFORE .text;\n\
        SECTIONS\n{{\n  .rodata.machine :\n  {{\n{constants}  }}\n}}\nINSERT BEFORE .rodata;\n"
    )
}

/// A path as it is in the name of a function: each part behind its length. (In a type's name in front of a method it may be
/// written with two dots.)
fn nested(path: &str) -> String {
    path.split("::").map(|part| format!("{}{part}", part.len())).collect()
}
