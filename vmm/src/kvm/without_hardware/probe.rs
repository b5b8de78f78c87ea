//! Finds out whether guest kernel mode is emulated here: runs a breakpoint instruction in ring 0.
//!
//! Hardware delivers `int3` as an exception, which in this guest, without an interrupt table, ends in a triple
//! fault. The emulator refuses it in protected mode, and KVM reports a failed emulation.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::super::{Host, KvmError};
use crate::memory::{GuestMemory, map_guest_ram};

/// Memory of the probing guest in bytes.
const MEMORY: u64 = 0x2000;
const CODE: u64 = 0x1000;
/// Stack of the probing thread in bytes.
const STACK: usize = 128 << 10;
/// `int3`, `hlt`.
const PROGRAM: [u8; 2] = [0xcc, 0xf4];

/// The probe, running in the background: it mostly waits for KVM, and what is loaded meanwhile does not depend on it.
/// Taking the probing guest down takes longest, and waits for [`Self::take_down`].
#[derive(Debug)]
pub(in crate::kvm) struct Probe {
    known: OnceLock<bool>,
    thread: Mutex<Option<JoinHandle<Answer>>>,
    guest: Mutex<Option<ProbingGuest>>,
}

/// Whether the repairs are needed, and the guest that showed it.
type Answer = Result<(bool, ProbingGuest), KvmError>;

impl Probe {
    /// Begins to find out whether the repairs are needed. Where the CPU has virtualisation, they are not.
    ///
    /// # Errors
    /// The host gives no thread.
    pub(in crate::kvm) fn start(host: &Host) -> Result<Self, KvmError> {
        if host.has_virtualisation {
            let known = OnceLock::from(false);
            return Ok(Self { known, thread: Mutex::default(), guest: Mutex::default() });
        }
        let kvm = host.kvm.clone();
        let builder = thread::Builder::new().name("probe".into()).stack_size(STACK);
        let thread = builder.spawn(move || refuses_breakpoint(&kvm)).map_err(KvmError::call("probe"))?;
        Ok(Self { known: OnceLock::new(), thread: Mutex::new(Some(thread)), guest: Mutex::default() })
    }

    /// Whether the repairs are needed. Waits the first time; after that there is no thread any more.
    ///
    /// # Errors
    /// KVM does not even run two instructions.
    pub(in crate::kvm) fn result(&self) -> Result<bool, KvmError> {
        if let Some(known) = self.known.get() {
            return Ok(*known);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lacks = || KvmError::Lacks { what: "the ability to run a guest of two instructions".into() };
        let (needed, guest) = thread.and_then(|thread| thread.join().ok()).ok_or_else(lacks)??;
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
        Ok(*self.known.get_or_init(|| needed))
    }

    /// Takes the probing guest down, for which KVM needs some ten milliseconds.
    pub(in crate::kvm) fn take_down(&self) {
        drop(self.guest.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The probing guest, in the order in which it is taken down.
#[derive(Debug)]
struct ProbingGuest {
    _vcpu: VcpuFd,
    _vm: VmFd,
    _memory: GuestMemory,
}

/// Runs the probing guest and leaves it to be taken down later.
fn refuses_breakpoint(kvm: &Kvm) -> Answer {
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
    Ok((refused, ProbingGuest { _vcpu: vcpu, _vm: vm, _memory: memory }))
}
