//! Marks on the VMM's boot timer: a byte written to an I/O port becomes a boot event on the host's clock.
#![expect(unsafe_code, reason = "ioperm(2) and the OUT instruction")]

use std::ffi::{c_int, c_ulong};
use std::io;

/// The port, `BOOT_TIMER_PORT` of the VMM.
const PORT: u16 = 0x3f0;

/// Writes `mark`.
///
/// # Errors
/// The kernel gives no I/O ports to programs, or not to this one.
pub(crate) fn write(mark: u8) -> io::Result<()> {
    permit(1)?;
    // SAFETY: the port was permitted just now; nothing but the VMM's boot timer is behind it, which touches no memory.
    unsafe {
        std::arch::asm!("out dx, al", in("dx") PORT, in("al") mark, options(nomem, nostack, preserves_flags));
    }
    permit(0)
}

fn permit(on: c_int) -> io::Result<()> {
    // SAFETY: the call takes three numbers and no pointers.
    let result = unsafe { libc::ioperm(c_ulong::from(PORT), 1, on) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
