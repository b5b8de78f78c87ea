//! A running virtual machine, as whoever started it holds it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::builder::{BuildError, Vm};
use super::{Platform, Requests, VmExit};
use crate::cpu::thread::{self as vcpu_thread, Outcome};
use crate::cpu::{CpuError, Kick};
use crate::legacy::terminal::RawTerminal;
use crate::profile::Profile;
use crate::symbols::Symbols;
use crate::virtio::EventLoop;

/// Enough for the devices' event handlers; only what is touched becomes resident.
const STACK: usize = 256 << 10;

/// A guest that runs on threads of its own. Dropping it stops the guest.
pub struct RunningVm {
    /// `None` once the outcome has been handed out.
    vcpu: Option<JoinHandle<Outcome>>,
    event_thread: Option<JoinHandle<()>>,
    quit: Arc<OwnedFd>,
    ended: Arc<OwnedFd>,
    requests: Arc<Requests>,
    kicker: Arc<dyn Kick>,
    _terminal: Option<RawTerminal>,
    symbols: Option<PathBuf>,
    _platform: Box<dyn Platform>,
}

impl RunningVm {
    pub(super) fn start(vm: Vm) -> Result<Self, BuildError> {
        let (quit, ended) = (signal()?, signal()?);
        let terminal = vm.uses_terminal.then(RawTerminal::enter);
        let kicker = vm.cpu.kicker();
        let mut running = Self {
            vcpu: None,
            event_thread: Some(spawn_event_thread(vm.event_loop, quit.clone())?),
            quit,
            ended,
            requests: vm.requests,
            kicker,
            _terminal: terminal,
            symbols: vm.symbols,
            _platform: vm.platform,
        };
        running.vcpu = Some(vcpu_thread::spawn(vm.cpu, vm.machine, vm.events, running.ended.clone())?);
        Ok(running)
    }

    /// A descriptor that becomes readable when the guest has ended, and stays so.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// How the guest ended, or `None` while it runs.
    ///
    /// # Errors
    /// The guest died, the host failed it, or its end has been reported already.
    pub fn try_wait(&mut self) -> Result<Option<VmExit>, CpuError> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&self.ended, PollFlags::IN)], Some(&now));
        match ended {
            Ok(0) => Ok(None),
            Ok(_) => self.join().map(Some),
            Err(error) => Err(CpuError::Thread(error.to_string())),
        }
    }

    /// Waits for the end of the guest and says how it ended.
    ///
    /// # Errors
    /// The guest died, the host failed it, or its end has been reported already.
    pub fn wait(mut self) -> Result<VmExit, CpuError> {
        self.join()
    }

    /// Ends the guest at once, as pulling the plug does, and says how it ended.
    ///
    /// # Errors
    /// The guest had died before, or its end has been reported already.
    pub fn stop(mut self) -> Result<VmExit, CpuError> {
        self.request_stop();
        self.join()
    }

    /// Asks the guest to end without waiting for it: [`Self::exit_fd`] tells when it has.
    pub fn request_stop(&self) {
        self.requests.end(VmExit::Stopped);
        if let Err(error) = self.kicker.kick() {
            tracing::error!(%error, "cannot kick the vCPU");
        }
    }

    /// Waits for the end of the guest, like [`Self::wait`], and tells what the engine has counted, if it has.
    ///
    /// # Errors
    /// As for [`Self::wait`].
    pub fn wait_for_profile(mut self) -> Result<(VmExit, Option<Profile>), CpuError> {
        let outcome = self.outcome()?;
        Ok((outcome.end.map_err(|error| self.name_place(error))?, outcome.profile))
    }

    fn join(&mut self) -> Result<VmExit, CpuError> {
        self.outcome()?.end.map_err(|error| self.name_place(error))
    }

    fn outcome(&mut self) -> Result<Outcome, CpuError> {
        let vcpu =
            self.vcpu.take().ok_or_else(|| CpuError::Thread("its end has been reported already".into()))?;
        vcpu.join().map_err(|_| CpuError::Thread("it panicked".into()))
    }

    /// Adds the kernel's name for the place of a death, where symbols were given.
    fn name_place(&self, mut error: CpuError) -> CpuError {
        if let (CpuError::Died(death), Some(path)) = (&mut error, &self.symbols) {
            match Symbols::read(path) {
                Ok(symbols) => death.name_place(&symbols),
                Err(error) => tracing::warn!(%error, "no symbol for the place where the guest died"),
            }
        }
        error
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        if self.vcpu.is_some() {
            self.request_stop();
            if let Err(error) = self.join() {
                tracing::debug!(%error, "a guest that nobody waited for had ended already");
            }
        }
        if let (Some(thread), true) = (self.event_thread.take(), raise(&self.quit)) {
            let _ = thread.join();
        }
    }
}

/// A new eventfd.
fn signal() -> Result<Arc<OwnedFd>, CpuError> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    Ok(Arc::new(fd.map_err(|error| CpuError::Thread(error.to_string()))?))
}

/// Signals an eventfd; whether that worked.
pub(crate) fn raise(event: &OwnedFd) -> bool {
    let result = rustix::io::write(event, &1u64.to_ne_bytes());
    if let Err(error) = result {
        tracing::error!(%error, "cannot signal a thread");
    }
    result.is_ok()
}

fn spawn_event_thread(mut event_loop: EventLoop, quit: Arc<OwnedFd>) -> Result<JoinHandle<()>, CpuError> {
    let stopped = Arc::new(AtomicBool::new(false));
    event_loop.add_subscriber(Box::new(Quit { event: quit, stopped: stopped.clone() }));
    let body = move || {
        while !stopped.load(Ordering::Relaxed) {
            if let Err(error) = event_loop.run() {
                tracing::error!(%error, "the event loop stumbled");
            }
        }
    };
    let builder = thread::Builder::new().name("vmm".into()).stack_size(STACK);
    builder.spawn(body).map_err(|error| CpuError::Thread(error.to_string()))
}

/// Ends the event loop.
struct Quit {
    event: Arc<OwnedFd>,
    stopped: Arc<AtomicBool>,
}

impl MutEventSubscriber for Quit {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.event, EventSet::IN)) {
            tracing::error!(%error, "the event loop will not end");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
