//! Holds values in all vector registers, and everything else of the floating-point state that a kernel must save.

use std::arch::asm;

/// How a register file is kept busy while it holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum While {
    /// The process calls `sched_yield` again and again: others run in between.
    Yielding,
    /// The process spins: others run when the kernel takes the CPU away.
    Spinning,
}

/// A register file in memory: 32 × 64 bytes of vector registers, 8 × 8 of masks, MXCSR, x87 control word.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Registers {
    vectors: [[u64; 8]; 32],
    masks: [u64; 8],
    mxcsr: u32,
    control: u16,
}

/// MXCSR and x87 control word after a reset.
const DEFAULT_MXCSR: u32 = 0x1f80;

impl Registers {
    /// Different in every register and lane for each seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut next = seed;
        let mut word = || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            next
        };
        let rounding = u16::try_from(seed % 4).unwrap_or_default();
        Self {
            vectors: std::array::from_fn(|_| std::array::from_fn(|_| word())),
            masks: std::array::from_fn(|_| word()),
            mxcsr: DEFAULT_MXCSR | u32::from(rounding) << 13,
            control: 0x37f | rounding << 10,
        }
    }

    /// What differs from `other`, of what this CPU has.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let width = if has_avx512() { 8 } else { 4 };
        let count = if has_avx512() { 32 } else { 16 };
        for (number, (ours, theirs)) in self.vectors.iter().zip(&other.vectors).take(count).enumerate() {
            if ours[..width] != theirs[..width] {
                return Some(format!("vector register {number}: {ours:x?}, not {theirs:x?}"));
            }
        }
        if has_avx512() && self.masks != other.masks {
            return Some(format!("masks: {:x?}, not {:x?}", self.masks, other.masks));
        }
        ((self.mxcsr, self.control) != (other.mxcsr, other.control)).then(|| {
            format!(
                "control words: {:#x} {:#x}, not {:#x} {:#x}",
                self.mxcsr, self.control, other.mxcsr, other.control
            )
        })
    }
}

/// Whether there are 512-bit registers and masks of 64 bits.
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512bw")
}

/// Whether there are 256-bit registers, the least that the checks want.
pub(crate) fn has_avx() -> bool {
    is_x86_feature_detected!("avx2")
}

macro_rules! hold {
    ($load:literal, $store:literal, $values:expr, $rounds:expr, $number:expr, $found:expr) => {
        asm!(
            $load,
            "ldmxcsr [r8 + 2112]",
            "fldcw [r8 + 2116]",
            "2:",
            "test r10, r10",
            "js 3f",
            "mov rax, r10",
            "syscall",
            "3:",
            "pause",
            "dec r9",
            "jnz 2b",
            $store,
            "stmxcsr [rdi + 2112]",
            "fnstcw [rdi + 2116]",
            "ldmxcsr [rsi]",
            "fninit",
            "vzeroupper",
            in("r8") $values,
            inout("r9") $rounds => _,
            in("r10") $number,
            in("rdi") $found,
            in("rsi") &DEFAULT_MXCSR,
            clobber_abi("sysv64"),
        )
    };
}

/// Loads `values` into the registers, keeps them there for `rounds` rounds, and answers what is in them then.
pub(crate) fn hold(values: &Registers, how: While, rounds: u64) -> Registers {
    let mut found = Registers::from_seed(0);
    let number = if how == While::Yielding { libc::SYS_sched_yield } else { -1 };
    let found_at = &raw mut found;
    if has_avx512() {
        // SAFETY: reads `values` and writes `found`, both of the layout named; the registers are declared clobbered,
        // those above 15 and the masks are nothing the compiler uses; the control words are as before in the end.
        unsafe {
            hold!(
                ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
                vmovdqa64 zmm\\i, [r8 + 64*\\i]
                .endr
                .irp i,0,1,2,3,4,5,6,7
                kmovq k\\i, [r8 + 2048 + 8*\\i]
                .endr",
                ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
                vmovdqa64 [rdi + 64*\\i], zmm\\i
                .endr
                .irp i,0,1,2,3,4,5,6,7
                kmovq [rdi + 2048 + 8*\\i], k\\i
                .endr",
                values,
                rounds,
                number,
                found_at
            );
        }
    } else {
        // SAFETY: as above, with the 16 registers of AVX.
        unsafe {
            hold!(
                ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
                vmovdqa ymm\\i, [r8 + 64*\\i]
                .endr",
                ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
                vmovdqa [rdi + 64*\\i], ymm\\i
                .endr",
                values,
                rounds,
                number,
                found_at
            );
        }
    }
    found
}

/// Overwrites all of them.
pub(crate) fn clobber() {
    let _ = hold(&Registers::from_seed(0xdead), While::Spinning, 1);
}
