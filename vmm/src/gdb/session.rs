//! A debugger from its connection to its end.
//!
//! ```text
//!   idle: the guest stands still, packets are answered ── continue, step ──► running
//!    ▲                                                                         │
//!    └───────── breakpoint, step done, Ctrl-C, the guest's death ──────────────┤
//!   over ◄──── detach, kill, disconnect, nonsense ── idle, running ── end of the guest
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};

use super::client::{Came, Client};
use super::target::Machine;
use crate::cpu::CpuError;
use crate::cpu::debug::Traps;

/// Why a debugger was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// It does not speak the protocol, or the guest has ended under it.
    #[error("{0}")]
    Protocol(#[from] GdbStubError<CpuError, io::Error>),
    /// Its socket cannot be used.
    #[error("its socket: {0}")]
    Socket(#[from] io::Error),
}

type Stub<'a, 'm> = GdbStubStateMachine<'a, Machine<'m>, Client>;

/// How a debugger has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The guest is to go on without it.
    Detached,
    /// The guest is to end.
    Killed,
}

/// What a session waits for besides its debugger.
pub(super) struct Events<'a> {
    /// vCPUs that have stopped.
    pub(super) traps: &'a Traps,
    /// Readable when the guest has ended.
    pub(super) ended: &'a OwnedFd,
}

const ENDED: usize = 0;
/// The packet that says so.
const OK: &[u8] = b"$OK#9a";

/// Serves the debugger behind `stream`; the guest stands still. Returns when the debugger is done or the guest has ended.
///
/// # Errors
/// See [`SessionError`].
pub(super) fn serve(
    stream: UnixStream,
    machine: &mut Machine<'_>,
    events: &Events<'_>,
) -> Result<Left, SessionError> {
    let mut stub = GdbStub::new(Client::new(stream)).run_state_machine(machine)?;
    loop {
        let next = match stub {
            GdbStubStateMachine::Idle(mut idle) => match idle.borrow_conn().wait(&[events.ended.as_fd()])? {
                Came::Byte(byte) => Some(idle.incoming_data(machine, byte)?),
                Came::Gone | Came::Other(_) => None,
            },
            GdbStubStateMachine::Running(_) => running(stub, machine, events)?,
            GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                let reason = match machine.stop() {
                    Ok(()) => MultiThreadStopReason::Signal(Signal::SIGINT),
                    Err(_) => machine.ended(),
                };
                // What has stopped at the same time is there still.
                events.traps.take();
                Some(interrupt.interrupt_handled(machine, Some(reason))?)
            }
            GdbStubStateMachine::Disconnected(mut over) => {
                if over.get_reason() != DisconnectReason::Kill {
                    return Ok(Left::Detached);
                }
                // Which the crate leaves to us: gdb waits for it.
                let client = over.borrow_conn();
                client.write_all(OK)?;
                client.flush()?;
                return Ok(Left::Killed);
            }
        };
        match next {
            Some(next) => stub = next,
            None => return Ok(Left::Detached),
        }
    }
}

fn running<'a, 'm>(
    stub: Stub<'a, 'm>,
    machine: &mut Machine<'m>,
    events: &Events<'_>,
) -> Result<Option<Stub<'a, 'm>>, SessionError> {
    let GdbStubStateMachine::Running(mut running) = stub else { return Ok(Some(stub)) };
    let others = [events.ended.as_fd(), events.traps.event().as_fd()];
    Ok(match running.borrow_conn().wait(&others)? {
        Came::Byte(byte) => Some(running.incoming_data(machine, byte)?),
        Came::Gone => None,
        Came::Other(ENDED) => {
            running.report_stop(machine, machine.ended())?;
            None
        }
        Came::Other(_) => {
            let stopped = machine.stop();
            match (stopped, events.traps.take().first()) {
                (Err(_), _) => {
                    running.report_stop(machine, machine.ended())?;
                    None
                }
                (Ok(()), Some((vcpu, trap))) => {
                    let reason = machine.reason(*vcpu, *trap);
                    Some(running.report_stop(machine, reason)?)
                }
                (Ok(()), None) => {
                    Some(running.report_stop(machine, MultiThreadStopReason::Signal(Signal::SIGINT))?)
                }
            }
        }
    })
}
