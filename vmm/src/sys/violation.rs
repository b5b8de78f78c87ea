//! What happens when a thread makes a system call that its filter forbids: the process says so, and ends.
//!
//! The kernel raises SIGSYS in the thread instead of making the call. The handler runs there, whatever the thread was
//! doing, so it allocates nothing, takes no lock, and makes three calls, which every filter allows.

use std::io;

use vmm_sys_util::signal::register_signal_handler;

/// The descriptor of the connection to the parent, in every VMM that is a process of its own.
pub(crate) const REPORT: i32 = 3;
/// How such a process exits: 128 + SIGSYS, for those who only see that.
pub(crate) const EXIT_CODE: i32 = 128 + libc::SIGSYS;

/// Offset of `si_syscall` in `siginfo_t` (asm-generic/siginfo.h), in units of four bytes.
const SYSCALL_NUMBER: usize = 6;
/// Bytes of a thread's name, with the zero at its end.
const NAME: usize = 16;
/// Longest report.
const LONGEST: usize = 96;

/// Installs the handler for this process.
///
/// # Errors
///
/// What the system call says.
pub(crate) fn report() -> io::Result<()> {
    register_signal_handler(libc::SIGSYS, handle).map_err(Into::into)
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole siginfo_t, of 128 bytes.
    let number = unsafe { info.cast::<i32>().add(SYSCALL_NUMBER) };
    // SAFETY: in bounds and aligned, as above.
    let number = unsafe { number.read() };
    let mut name = [0u8; NAME];
    // SAFETY: PR_GET_NAME writes 16 bytes, which `name` has.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let mut text = [0; LONGEST];
    let len = describe(number, &name, &mut text);
    // SAFETY: reads `len` bytes of `text`, which has them. With nobody to report to there is nothing else to do.
    unsafe { libc::write(REPORT, text.as_ptr().cast(), len) };
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(EXIT_CODE) };
}

/// Writes the report, which is JSON, to `text`; how long it is.
fn describe(number: i32, name: &[u8], text: &mut [u8; LONGEST]) -> usize {
    let mut digits = [0; 10];
    let mut left = number.unsigned_abs();
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 || first == 0 {
            break;
        }
    }
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_ ".contains(byte);
    let name = name.iter().copied().take_while(harmless);
    let parts = b"{\"forbidden\":{\"call\":".iter().copied();
    let parts = parts.chain(digits[first..].iter().copied()).chain(b",\"thread\":\"".iter().copied());
    let parts = parts.chain(name).chain(b"\"}}".iter().copied());
    text.iter_mut().zip(parts).map(|(to, byte)| *to = byte).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_json_whatever_the_name() {
        let report = |number, name: &[u8]| {
            let mut text = [0; LONGEST];
            let len = describe(number, name, &mut text);
            String::from_utf8(text[..len].to_vec()).unwrap()
        };
        assert_eq!(report(59, b"vcpu0\0\0"), r#"{"forbidden":{"call":59,"thread":"vcpu0"}}"#);
        assert_eq!(report(0, b"a\"b"), r#"{"forbidden":{"call":0,"thread":"a"}}"#);
        let longest = report(i32::MAX, &[b'x'; NAME]);
        assert!(longest.ends_with("xxx\"}}") && longest.len() < LONGEST, "{longest}");
    }
}
