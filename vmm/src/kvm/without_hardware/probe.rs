//! Finds out whether guest kernel mode is emulated here: runs a breakpoint instruction in ring 0.
//!
//! Hardware delivers `int3` as an exception, which in this guest, without an interrupt table, ends in a triple
//! fault. The emulator refuses it in protected mode, and KVM reports a failed emulation.

use std::fs::File;
use std::io::Read;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::super::KvmError;
use crate::memory::{GuestMemory, map_guest_ram};

/// Memory of the probing guest in bytes.
const MEMORY: u64 = 0x2000;
const CODE: u64 = 0x1000;
/// Stack of the probing thread in bytes.
const STACK: usize = 128 << 10;
/// `int3`, `hlt`.
const PROGRAM: [u8; 2] = [0xcc, 0xf4];

/// The probe, running in the background: it mostly waits for KVM, and what is loaded meanwhile does not depend on it.
/// Taking the probing guest down takes longest, and nobody waits for that until this is dropped.
#[derive(Debug)]
pub(in crate::kvm) struct Probe {
    answer: Mutex<Receiver<Result<bool, KvmError>>>,
    known: OnceLock<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Begins to find out whether the repairs are needed. Where the CPU has virtualisation, they are not.
    ///
    /// # Errors
    /// The host gives no thread.
    pub(in crate::kvm) fn start(kvm: &Arc<Kvm>) -> Result<Self, KvmError> {
        let (sender, answer) = mpsc::sync_channel(1);
        let answer = Mutex::new(answer);
        if has_virtualisation_flags() {
            return Ok(Self { answer, known: OnceLock::from(false), thread: None });
        }
        let kvm = kvm.clone();
        let body = move || {
            let mut guest = None;
            let needed = refuses_breakpoint(&kvm, &mut guest);
            // Nobody listens any more when building the machine has failed meanwhile.
            let _ = sender.send(needed);
            drop(guest);
        };
        let builder = thread::Builder::new().name("probe".into()).stack_size(STACK);
        let thread = builder.spawn(body).map_err(KvmError::call("probe"))?;
        Ok(Self { answer, known: OnceLock::new(), thread: Some(thread) })
    }

    /// Whether the repairs are needed. Waits the first time.
    ///
    /// # Errors
    /// KVM does not even run two instructions.
    pub(in crate::kvm) fn result(&self) -> Result<bool, KvmError> {
        if let Some(known) = self.known.get() {
            return Ok(*known);
        }
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let lacks = |_| KvmError::Lacks { what: "the ability to run a guest of two instructions".into() };
        let needed = answer.map_err(lacks)??;
        Ok(*self.known.get_or_init(|| needed))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The probing guest, in the order in which it is taken down.
struct ProbingGuest {
    _vcpu: VcpuFd,
    _vm: VmFd,
    _memory: GuestMemory,
}

/// Whether the first processor of /proc/cpuinfo has VT-x or SVM. Unreadable counts as yes: then nothing is probed.
pub(in crate::kvm) fn has_virtualisation_flags() -> bool {
    let mut start = [0; 8192];
    let Ok(len) = File::open("/proc/cpuinfo").and_then(|mut file| file.read(&mut start)) else {
        return true;
    };
    flags_name_virtualisation(&String::from_utf8_lossy(start.get(..len).unwrap_or_default()))
}

fn flags_name_virtualisation(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_none_or(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Runs the probing guest and leaves it in `guest` to be taken down later.
fn refuses_breakpoint(kvm: &Kvm, guest: &mut Option<ProbingGuest>) -> Result<bool, KvmError> {
    let memory = map_guest_ram(MEMORY).map_err(|e| KvmError::call("probe")(std::io::Error::other(e)))?;
    let written = memory.write_slice(&PROGRAM, GuestAddress(CODE));
    let host_address = written.and_then(|()| memory.get_host_address(GuestAddress(0)));
    let host_address = host_address.map_err(|e| KvmError::call("probe")(std::io::Error::other(e)))?;
    let vm = kvm.create_vm().map_err(KvmError::call("create a virtual machine"))?;
    let slot = kvm_userspace_memory_region {
        memory_size: MEMORY,
        userspace_addr: host_address.expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: `memory` maps this range, and outlives the vCPU below (`ProbingGuest`).
    unsafe { vm.set_user_memory_region(slot) }.map_err(KvmError::call("add guest memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(KvmError::call("create a vCPU"))?;

    let mut sregs = vcpu.get_sregs().map_err(KvmError::call("read system registers"))?;
    let flat = |type_| kvm_segment {
        limit: u32::MAX,
        selector: 8,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    (sregs.cs, sregs.ss, sregs.ds, sregs.es) = (flat(0xb), flat(3), flat(3), flat(3));
    sregs.cr0 |= 1;
    sregs.idt.limit = 0;
    vcpu.set_sregs(&sregs).map_err(KvmError::call("set system registers"))?;
    let regs = kvm_regs { rip: CODE, rsp: MEMORY, rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(KvmError::call("set general registers"))?;
    let refused = loop {
        match vcpu.run() {
            Ok(VcpuExit::InternalError) => {
                // SAFETY: KVM sets this member of the union for an internal error; it is plain numbers.
                let internal = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
                break internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
            }
            Err(error) if error.errno() == libc::EINTR => {}
            Ok(_) => break false,
            Err(error) => return Err(KvmError::call("run a guest of two instructions")(error)),
        }
    };
    *guest = Some(ProbingGuest { _vcpu: vcpu, _vm: vm, _memory: memory });
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_first_processor_decide() {
        assert!(flags_name_virtualisation("processor : 0\nflags\t\t: fpu vmx sse\n"));
        assert!(flags_name_virtualisation("flags\t\t: fpu svm\nflags\t\t: fpu\n"));
        assert!(!flags_name_virtualisation("flags\t\t: fpu svm_lock vmxx\n"));
        assert!(flags_name_virtualisation("no flags here"), "an unknown format is left alone");
    }
}
