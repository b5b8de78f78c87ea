//! Bits of the control registers and of EFER (Intel SDM volume 3, section 2.5; AMD APM volume 2, section 3.1).

/// CR0: protected mode.
pub(crate) const CR0_PE: u64 = 1;
/// CR0: WAIT obeys CR0_TS.
pub(crate) const CR0_MP: u64 = 1 << 1;
/// CR0: there is no x87.
pub(crate) const CR0_EM: u64 = 1 << 2;
/// CR0: extended state belongs to another task.
pub(crate) const CR0_TS: u64 = 1 << 3;
/// CR0: x87, always set.
pub(crate) const CR0_ET: u64 = 1 << 4;
/// CR0: x87 errors are exceptions.
pub(crate) const CR0_NE: u64 = 1 << 5;
/// CR0: read-only pages are so for the kernel too.
pub(crate) const CR0_WP: u64 = 1 << 16;
/// CR0: alignment checks can be had.
pub(crate) const CR0_AM: u64 = 1 << 18;
/// CR0: not write-through.
pub(crate) const CR0_NW: u64 = 1 << 29;
/// CR0: no caching.
pub(crate) const CR0_CD: u64 = 1 << 30;
/// CR0: paging.
pub(crate) const CR0_PG: u64 = 1 << 31;

/// CR4: RDTSC is for ring 0.
pub(crate) const CR4_TSD: u64 = 1 << 2;
/// CR4: DR4 and DR5 do not exist.
pub(crate) const CR4_DE: u64 = 1 << 3;
/// CR4: 4 MiB pages.
pub(crate) const CR4_PSE: u64 = 1 << 4;
/// CR4: page tables of 64-bit entries.
pub(crate) const CR4_PAE: u64 = 1 << 5;
/// CR4: global pages.
pub(crate) const CR4_PGE: u64 = 1 << 7;
/// CR4: five levels of page tables.
pub(crate) const CR4_LA57: u64 = 1 << 12;
/// CR4: programs may set FS and GS base.
pub(crate) const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4: XSAVE may be used.
pub(crate) const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4: ring 0 does not execute programs' pages.
pub(crate) const CR4_SMEP: u64 = 1 << 20;

/// EFER: SYSCALL.
pub(crate) const EFER_SCE: u64 = 1;
/// EFER: long mode once there is paging.
pub(crate) const EFER_LME: u64 = 1 << 8;
/// EFER: long mode.
pub(crate) const EFER_LMA: u64 = 1 << 10;
/// EFER: pages that are not executed.
pub(crate) const EFER_NXE: u64 = 1 << 11;
