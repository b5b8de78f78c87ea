//! Numbers of `ioctl` requests (`linux/kvm.h`, `asm-generic/ioctl.h`).

use kvm_bindings as kvm;

/// The request is a write to the kernel, a read from it, or both.
const WRITE: u64 = 1;
const READ: u64 = 2;

/// `_IOC`, with KVM's type.
const fn request<T>(direction: u64, number: u64) -> u64 {
    direction << 30 | (size_of::<T>() as u64) << 16 | (kvm::KVMIO as u64) << 8 | number
}

/// Enters the guest. First in every list: nothing else is as frequent.
pub(super) const RUN: u64 = request::<()>(0, 0x80);

/// What a vCPU's thread asks of KVM besides: registers for repairs, deaths and snapshots; of the software engine also the
/// memory slots and the signal mask.
pub(super) const VCPU: &[u64] = &[
    RUN,
    request::<kvm::kvm_userspace_memory_region>(WRITE, 0x46),
    request::<kvm::kvm_regs>(READ, 0x81),
    request::<kvm::kvm_regs>(WRITE, 0x82),
    request::<kvm::kvm_sregs>(READ, 0x83),
    request::<kvm::kvm_sregs>(WRITE, 0x84),
    request::<kvm::kvm_msrs>(READ | WRITE, 0x88),
    request::<kvm::kvm_msrs>(WRITE, 0x89),
    request::<kvm::kvm_signal_mask>(WRITE, 0x8b),
    request::<kvm::kvm_fpu>(READ, 0x8c),
    request::<kvm::kvm_fpu>(WRITE, 0x8d),
    request::<kvm::kvm_lapic_state>(READ, 0x8e),
    request::<kvm::kvm_lapic_state>(WRITE, 0x8f),
    request::<kvm::kvm_cpuid2>(READ | WRITE, 0x91),
    request::<kvm::kvm_mp_state>(READ, 0x98),
    request::<kvm::kvm_mp_state>(WRITE, 0x99),
    request::<kvm::kvm_guest_debug>(WRITE, 0x9b),
    request::<kvm::kvm_vcpu_events>(READ, 0x9f),
    request::<kvm::kvm_vcpu_events>(WRITE, 0xa0),
    request::<kvm::kvm_debugregs>(READ, 0xa1),
    request::<kvm::kvm_debugregs>(WRITE, 0xa2),
    request::<()>(0, 0xa3),
    request::<kvm::kvm_xsave>(READ, 0xa4),
    request::<kvm::kvm_xsave>(WRITE, 0xa5),
    request::<kvm::kvm_xcrs>(READ, 0xa6),
    request::<kvm::kvm_xcrs>(WRITE, 0xa7),
    request::<()>(0, 0xad),
    request::<kvm::kvm_xsave>(READ, 0xcf),
];

/// What the main thread asks of KVM: what vCPUs share, for snapshots; the watch for system call set-up where there is no
/// hardware assistance.
pub(super) const MAIN: &[u64] = &[
    request::<kvm::kvm_irqchip>(READ | WRITE, 0x62),
    request::<kvm::kvm_clock_data>(READ, 0x7c),
    request::<kvm::kvm_pit_state2>(READ, 0x9f),
    request::<kvm::kvm_enable_cap>(WRITE, 0xa3),
    request::<kvm::kvm_msr_filter>(WRITE, 0xc6),
];

/// Of taps (`linux/if_tun.h`), terminals and files: offloads that the guest's driver takes, the window's size, flushing and
/// discarding on a block device.
pub(super) const DEVICES: &[u64] = &[
    libc::TUNSETOFFLOAD,
    libc::TUNSETVNETHDRSZ,
    libc::TIOCGWINSZ,
    libc::FIONREAD,
    libc::FIONBIO,
    BLKDISCARD,
    BLKZEROOUT,
    BLKGETSIZE64,
];

/// What a network card asks of its tap when the guest's driver starts, which a vCPU's thread does.
pub(super) const ACTIVATION: &[u64] = &[libc::TUNSETOFFLOAD, libc::TUNSETVNETHDRSZ];

// linux/fs.h; libc has them not.
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;
const BLKGETSIZE64: u64 = 0x8008_1272;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernels_header() {
        // KVM_RUN, KVM_GET_REGS, KVM_SET_USER_MEMORY_REGION and KVM_GET_MSRS as strace prints them.
        assert_eq!(RUN, 0xae80);
        assert!(VCPU.contains(&0x8090_ae81));
        assert!(VCPU.contains(&0x4020_ae46));
        assert!(VCPU.contains(&0xc008_ae88));
        assert!(MAIN.contains(&0x4188_aec6), "KVM_X86_SET_MSR_FILTER");
    }
}
