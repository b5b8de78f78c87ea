//! Receives the signals that an instruction of this process causes.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use super::mapping::{Mapping, PAGE};
use super::vector;

/// What the handler does besides taking notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Then {
    /// Goes on where the signal came: behind a trap, at the instruction of a fault.
    GoOn,
    /// Goes on this many bytes further.
    Skip(u8),
    /// Makes the page of the fault writable and goes on.
    Unprotect,
    /// Overwrites all vector registers and goes on.
    Clobber,
    /// Ends the process with exit code [`LEFT`].
    Leave,
}

/// Exit code of a process that left from its handler.
pub(crate) const LEFT: i32 = 77;

/// What the kernel said of the last signal caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caught {
    /// Signals so far.
    pub(crate) count: usize,
    /// The signal.
    pub(crate) signal: i32,
    /// `si_code`.
    pub(crate) code: i32,
    /// `si_addr`.
    pub(crate) address: usize,
    /// A place on the stack that the handler ran on.
    pub(crate) stack: usize,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static STACK: AtomicUsize = AtomicUsize::new(0);
/// The `Then` of the handler: its kind in the low byte, the bytes to skip above.
static THEN: AtomicI32 = AtomicI32::new(0);

/// The last signal caught.
pub(crate) fn caught() -> Caught {
    Caught {
        count: COUNT.load(Ordering::SeqCst),
        signal: SIGNAL.load(Ordering::SeqCst),
        code: CODE.load(Ordering::SeqCst),
        address: ADDRESS.load(Ordering::SeqCst),
        stack: STACK.load(Ordering::SeqCst),
    }
}

/// Catches `signal` from now on, on the alternate stack if there is one.
///
/// # Errors
/// No such signal.
pub(crate) fn catch(signal: i32, then: Then) -> io::Result<()> {
    let word = match then {
        Then::GoOn => 0,
        Then::Skip(bytes) => 1 | i32::from(bytes) << 8,
        Then::Unprotect => 2,
        Then::Clobber => 3,
        Then::Leave => 4,
    };
    THEN.store(word, Ordering::SeqCst);
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    // SAFETY: all zeroes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and calls nothing but mprotect and _exit.
    let failed = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs handlers on `stack` from now on.
///
/// # Errors
/// It is too small.
pub(crate) fn use_stack(stack: &Mapping) -> io::Result<()> {
    let place = ptr::with_exposed_provenance_mut(stack.address());
    set_stack(libc::stack_t { ss_sp: place, ss_flags: 0, ss_size: stack.len() })
}

/// Runs handlers on the stack they interrupt from now on; std has provided another.
///
/// # Errors
/// One runs on it just now.
pub(crate) fn use_no_stack() -> io::Result<()> {
    set_stack(libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 })
}

fn set_stack(stack: libc::stack_t) -> io::Result<()> {
    // SAFETY: the mapping is used for nothing else; a handler that runs after its end would fault, which a check sees.
    let failed = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has SIGALRM sent every `interval_us` microseconds.
///
/// # Errors
/// No such interval.
pub(crate) fn tick_every(interval_us: i64) -> io::Result<()> {
    let interval = libc::timeval { tv_sec: 0, tv_usec: interval_us };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: both are live structures of the types that it takes.
    let failed = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let here = 0u8;
    SIGNAL.store(signal, Ordering::SeqCst);
    STACK.store((&raw const here).addr(), Ordering::SeqCst);
    // SAFETY: the kernel passes a live siginfo_t.
    let info = unsafe { &*info };
    CODE.store(info.si_code, Ordering::SeqCst);
    // SAFETY: for signals without an address this reads something else, which nobody looks at.
    let address = unsafe { info.si_addr() }.addr();
    ADDRESS.store(address, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
    let word = THEN.load(Ordering::SeqCst);
    match word & 0xff {
        1 => {
            let context: *mut libc::ucontext_t = context.cast();
            // SAFETY: the kernel passes a live ucontext_t, and takes the registers from it afterwards.
            let registers = unsafe { &mut (*context).uc_mcontext.gregs };
            registers[libc::REG_RIP as usize] += i64::from(word >> 8);
        }
        2 => {
            let page = ptr::with_exposed_provenance_mut(address & !(PAGE - 1));
            // SAFETY: a page that the check mapped, to which no reference exists.
            unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
        }
        3 => vector::clobber(),
        // SAFETY: ends the process.
        4 => unsafe { libc::_exit(LEFT) },
        _ => {}
    }
}
