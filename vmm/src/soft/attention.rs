//! How other threads get the attention of the CPU's thread, whatever that is doing.
//!
//! ```text
//!   Interpreting ── looks at the flag between blocks
//!   Native ──────── a kick ends KVM_RUN
//!   Halted ──────── a condition variable wakes it
//! ```
//!
//! The flag comes first, then the phase; the CPU's thread sets the phase first, then looks at the flag. So one of the two
//! always sees the other.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::cpu::Kick;

const INTERPRETING: u8 = 0;
const NATIVE: u8 = 1;
const HALTED: u8 = 2;

/// The handle by which other threads reach the CPU.
pub(crate) struct Attention {
    wanted: AtomicBool,
    phase: AtomicU8,
    lock: Mutex<()>,
    wake: Condvar,
    native: Arc<dyn Kick>,
}

impl Attention {
    /// A handle; `native` ends what KVM runs.
    pub(crate) fn new(native: Arc<dyn Kick>) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            phase: AtomicU8::new(INTERPRETING),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            native,
        }
    }

    /// The flag to look at between blocks.
    pub(crate) fn wanted(&self) -> &AtomicBool {
        &self.wanted
    }

    /// Takes the request, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::SeqCst)
    }

    /// Asks for attention. Cheap if that has been done and not yet been seen.
    ///
    /// # Errors
    /// The host refused to signal the thread.
    pub(crate) fn request(&self) -> io::Result<()> {
        if self.wanted.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        match self.phase.load(Ordering::SeqCst) {
            NATIVE => self.native.kick(),
            HALTED => {
                drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
                self.wake.notify_all();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Does `work`, which a kick ends; not if attention is wanted already.
    pub(crate) fn natively<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        self.phase.store(NATIVE, Ordering::SeqCst);
        let result = (!self.wanted.load(Ordering::SeqCst)).then(work);
        self.phase.store(INTERPRETING, Ordering::SeqCst);
        result
    }

    /// Sleeps until attention is wanted, `most` at most.
    pub(crate) fn sleep(&self, most: Option<Duration>) {
        self.phase.store(HALTED, Ordering::SeqCst);
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = |_: &mut ()| !self.wanted.load(Ordering::SeqCst);
        match most {
            Some(most) => drop(self.wake.wait_timeout_while(guard, most, calm)),
            None => drop(self.wake.wait_while(guard, calm)),
        }
        self.phase.store(INTERPRETING, Ordering::SeqCst);
    }
}

impl Kick for Attention {
    fn kick(&self) -> io::Result<()> {
        self.request()
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.native.cpu_time()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Kicks(AtomicU32);

    impl Kick for Kicks {
        fn kick(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn cpu_time(&self) -> Option<Duration> {
            None
        }
    }

    #[test]
    fn a_request_is_taken_once() {
        let attention = Attention::new(Arc::new(Kicks::default()));
        assert!(!attention.take());
        attention.request().unwrap();
        attention.request().unwrap();
        assert!(attention.take());
        assert!(!attention.take());
    }

    #[test]
    fn only_native_code_is_kicked_and_only_once() {
        let kicks = Arc::new(Kicks::default());
        let attention = Attention::new(kicks.clone());
        attention.request().unwrap();
        assert_eq!(attention.natively(|| ()), None, "what is wanted comes first");
        attention.take();
        attention.natively(|| {
            attention.request().unwrap();
            attention.request().unwrap();
        });
        assert_eq!(kicks.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_sleeper_wakes_when_wanted_or_when_its_time_has_come() {
        let attention = Attention::new(Arc::new(Kicks::default()));
        attention.sleep(Some(Duration::from_millis(1)));
        thread::scope(|scope| {
            scope.spawn(|| attention.sleep(None));
            attention.request().unwrap();
        });
        attention.sleep(None);
        assert!(attention.take());
    }
}
