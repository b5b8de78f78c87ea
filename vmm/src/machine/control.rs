//! Which vCPUs run. Whoever has the machine can hold all of them, a debugger each for itself; one runs that nobody holds.
//!
//! ```text
//!   held by the machine's owner ──┐
//!   kept by the debugger ─────────┴─ neither ──► running
//! ```

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::vcpus::{Kickers, kick};
use super::{Requests, VmExit};
use crate::cpu::thread::{Command, Work};
use crate::cpu::{CpuError, Saved};

/// Time between two looks whether a guest that is to stand still has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How a vCPU is held.
#[derive(Debug, Clone, Copy)]
struct Vcpu {
    /// It has been told to go on and has not said since that it is parked.
    is_running: bool,
    /// The debugger wants it to stand still.
    is_kept: bool,
}

struct State {
    vcpus: Vec<Vcpu>,
    /// The owner wants all of them to stand still.
    is_held: bool,
    parked: Receiver<u8>,
}

impl State {
    fn is_parked(&mut self, index: u8) {
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(index)) {
            vcpu.is_running = false;
        }
    }
}

/// The hold on the vCPUs of a machine.
pub(crate) struct VcpuControl {
    commands: Vec<Sender<Command>>,
    requests: Arc<Requests>,
    kickers: Arc<Kickers>,
    state: Mutex<State>,
}

impl VcpuControl {
    /// That on vCPUs which have just been started, and will say at `parked` that they are parked if that was asked of
    /// them: because the owner holds them, or the debugger keeps them.
    pub(super) fn new(
        commands: Vec<Sender<Command>>,
        parked: Receiver<u8>,
        requests: Arc<Requests>,
        kickers: Arc<Kickers>,
        is_held: bool,
        is_kept: bool,
    ) -> Self {
        let vcpus = vec![Vcpu { is_running: true, is_kept }; commands.len()];
        Self { commands, requests, kickers, state: Mutex::new(State { vcpus, is_held, parked }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many vCPUs there are.
    pub(crate) fn vcpus(&self) -> usize {
        self.commands.len()
    }

    /// Whether the owner holds the vCPUs.
    pub(super) fn is_held(&self) -> bool {
        self.state().is_held
    }

    /// Parks the vCPUs for the owner.
    ///
    /// # Errors
    /// The guest has ended meanwhile.
    pub(super) fn hold(&self) -> Result<(), CpuError> {
        let mut state = self.state();
        if !state.is_held {
            self.park_all(&mut state)?;
            state.is_held = true;
        }
        Ok(())
    }

    /// The owner no longer holds them.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.is_held = false;
        self.let_run(&mut state);
    }

    /// Parks the vCPUs for the debugger.
    ///
    /// # Errors
    /// The guest has ended meanwhile.
    pub(crate) fn keep(&self) -> Result<(), CpuError> {
        let mut state = self.state();
        self.park_all(&mut state)?;
        if self.requests.ending().is_some() {
            // One that has stopped for the debugger as the end was asked for must hear of it.
            self.let_all_run(&mut state);
            return Err(ended());
        }
        state.vcpus.iter_mut().for_each(|vcpu| vcpu.is_kept = true);
        Ok(())
    }

    /// The debugger keeps only those of the vCPUs that `is_kept` says; all of them were.
    pub(crate) fn keep_only(&self, is_kept: impl Fn(usize) -> bool) {
        let mut state = self.state();
        state.vcpus.iter_mut().enumerate().for_each(|(index, vcpu)| vcpu.is_kept = is_kept(index));
        self.let_run(&mut state);
    }

    /// Waits until those vCPUs have parked that were started to do so.
    ///
    /// # Errors
    /// The guest has ended meanwhile.
    pub(super) fn wait_until_parked(&self) -> Result<(), CpuError> {
        Self::wait(&self.requests, &mut self.state())
    }

    fn park_all(&self, state: &mut State) -> Result<(), CpuError> {
        self.requests.pause(true);
        if state.vcpus.iter().any(|vcpu| vcpu.is_running) {
            kick(&*self.kickers);
        }
        Self::wait(&self.requests, state)
    }

    fn wait(requests: &Requests, state: &mut State) -> Result<(), CpuError> {
        while state.vcpus.iter().any(|vcpu| vcpu.is_running) {
            match state.parked.recv_timeout(LOOK) {
                Ok(index) => state.is_parked(index),
                Err(RecvTimeoutError::Timeout) if requests.ending().is_none() => {}
                // One that has ended never parks, while others may still be parked.
                Err(_) => return Err(ended()),
            }
        }
        Ok(())
    }

    fn let_run(&self, state: &mut State) {
        if state.is_held || state.vcpus.iter().all(|vcpu| vcpu.is_kept) {
            return;
        }
        self.requests.pause(false);
        for (vcpu, command) in state.vcpus.iter_mut().zip(&self.commands) {
            if !vcpu.is_running && !vcpu.is_kept {
                vcpu.is_running = true;
                // One that has ended does not go on.
                let _ = command.send(Command::Resume);
            }
        }
    }

    /// Has `work` be done with vCPU `vcpu`, which is parked, on its thread.
    ///
    /// # Errors
    /// The guest has ended, or there is no such vCPU.
    pub(crate) fn debug(&self, vcpu: usize, work: Work) -> Result<(), CpuError> {
        let command = self.commands.get(vcpu).ok_or_else(ended)?;
        command.send(Command::Debug(work)).map_err(|_| ended())
    }

    /// The state of each vCPU; the owner holds them.
    ///
    /// # Errors
    /// It does not, or their engine cannot say.
    pub(super) fn save(&self) -> Result<Vec<Saved>, CpuError> {
        if !self.is_held() {
            return Err(CpuError::Thread("the guest is not paused".into()));
        }
        let save = |command: &Sender<Command>| {
            let (answer, answers) = mpsc::channel();
            command.send(Command::Save(answer)).map_err(|_| ended())?;
            answers.recv().map_err(|_| ended())?
        };
        self.commands.iter().map(save).collect()
    }

    /// Asks the guest to end as `exit` says, whoever holds it.
    pub(crate) fn end(&self, exit: VmExit) {
        self.requests.end(exit);
        let mut state = self.state();
        while let Ok(index) = state.parked.try_recv() {
            state.is_parked(index);
        }
        self.let_all_run(&mut state);
        drop(state);
        kick(&*self.kickers);
    }

    fn let_all_run(&self, state: &mut State) {
        state.is_held = false;
        state.vcpus.iter_mut().for_each(|vcpu| vcpu.is_kept = false);
        self.let_run(state);
    }
}

/// What to say of a guest that has ended.
pub(crate) fn ended() -> CpuError {
    CpuError::Thread("the guest has ended meanwhile".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two vCPUs that nobody runs: what they are told, and where they say that they are parked.
    fn control(is_held: bool, is_kept: bool) -> (VcpuControl, Vec<Receiver<Command>>, Sender<u8>) {
        let (park, parked) = mpsc::channel();
        let (commands, told): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel()).unzip();
        let requests = Arc::new(Requests::new(2));
        let control = VcpuControl::new(commands, parked, requests, Kickers::of(&[]), is_held, is_kept);
        for index in 0..2 {
            park.send(index).unwrap();
        }
        control.wait_until_parked().unwrap();
        (control, told, park)
    }

    /// Which of them were told to go on since this was last asked.
    fn told(told: &[Receiver<Command>]) -> Vec<bool> {
        told.iter().map(|commands| matches!(commands.try_recv(), Ok(Command::Resume))).collect()
    }

    #[test]
    fn a_vcpu_goes_on_when_neither_holds_it() {
        let (control, commands, park) = control(true, true);
        control.release();
        assert_eq!(told(&commands), [false, false], "the debugger keeps them");
        control.keep_only(|vcpu| vcpu == 0);
        assert_eq!(told(&commands), [false, true]);
        park.send(1).unwrap();
        control.hold().unwrap();
        control.keep_only(|_| false);
        assert_eq!(told(&commands), [false, false], "the owner holds them");
        control.release();
        assert_eq!(told(&commands), [true, true]);
    }

    #[test]
    fn an_end_reaches_vcpus_that_stopped_for_the_debugger_and_nobody_has_heard_of() {
        let (control, commands, park) = control(false, true);
        control.keep_only(|_| false);
        assert_eq!(told(&commands), [true, true]);
        park.send(0).unwrap();
        control.end(VmExit::Stopped);
        assert_eq!(told(&commands), [true, false]);
        for index in 0..2 {
            park.send(index).unwrap();
        }
        control.keep().unwrap_err();
        assert_eq!(told(&commands), [true, true]);
    }

    #[test]
    fn a_guest_that_ends_while_it_is_to_stand_still_is_not_waited_for() {
        let (control, _commands, _park) = control(false, true);
        control.keep_only(|_| false);
        control.requests.end(VmExit::Reset);
        control.keep().unwrap_err();
        control.hold().unwrap_err();
    }
}
