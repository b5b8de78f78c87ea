//! The run loop: interprets the kernel, lets programs run natively, delivers interrupts, waits when the CPU halts.
//!
//! ```text
//!          ┌──────────────────────────── look: requests, timers, interrupts ◄──────────────┐
//!          ▼                                                                               │
//!   ring 0: interpret ── privilege, port, device, fault, halt, a few thousand instructions ─┤
//!   ring 3: interpret the first RENT instructions, ─────────────────────────────────────────┤
//!           then enter it natively ── event, kick, timer ──────────────────────────────────┘
//! ```
//!
//! Entering ring 3 natively costs as much as interpreting some thousand instructions. Nobody knows beforehand how
//! many will come before the next system call or page fault; so the interpreter goes on in ring 3 until it has spent that
//! much, and only then pays for the entry. That costs at most twice what knowing would (the "ski rental" problem).

mod debug;

use std::sync::Arc;
use std::time::Duration;

use kvm_bindings::CpuId;

use super::attention::Attention;
use super::clock::Clock;
use super::cpu::Cpu;
use super::cpuid::Cpuid;
use super::exception::{self, Event, Undelivered};
use super::extended::Extended;
use super::flags;
use super::interpreter::{Interpreter, Pause};
use super::interrupts::{Accepts, Controllers, Interrupt};
use super::persist::CpuState;
use super::ram::Ram;
use super::step::Stop;
use super::system::System;
use crate::boot::Entry;
use crate::cpu::debug::Stops;
use crate::cpu::xstate::Layout;
use crate::cpu::{Action, CpuEngine, CpuError, Death, Exit, Kick, Left, Saved, registers};
use crate::kvm::{KvmError, Ring3, Ring3Exit, Ring3State, SyscallMsrs};
use crate::memory::GuestMemory;
use crate::profile::{Counters, Profile};
use crate::sys::heap;
use crate::sys::tsc::tsc;

/// Instructions of ring 3 to interpret before a native entry.
const RENT: u64 = 8000;
/// Instructions of ring 0 between two looks at the timers.
const STRETCH: u64 = 2000;
/// A CPU that has done less than this in that time is idle.
const IDLE: Duration = Duration::from_millis(1000);
const IDLE_INSTRUCTIONS: u64 = 1_000_000;
/// Vector of the debug exception.
const DEBUG_EXCEPTION: u8 = 1;

/// The CPU of a machine whose kernel is interpreted.
pub(crate) struct SoftCpu {
    interpreter: Interpreter,
    ring3: Ring3,
    controllers: Arc<Controllers>,
    attention: Arc<Attention>,
    memory: GuestMemory,
    /// Instructions of ring 3 interpreted since it was entered from ring 0.
    rented: u64,
    counters: Counters,
    /// TSC and instructions when it was last looked whether the CPU is idle.
    idle: (u64, u64),
    /// TSC at the start of the run.
    start: u64,
    /// Ticks of the TSC spent in ring 3 natively, and halted.
    native: u64,
    halted: u64,
    /// The CPU waits in HLT.
    is_halted: bool,
    /// Where a debugger wants it to stop.
    stops: Stops,
}

/// What to do after a stop.
type Then = Option<Left>;

impl SoftCpu {
    /// A CPU over `memory`, about to start at `entry`.
    ///
    /// # Errors
    /// The memory cannot be mapped, or does not hold the first tables.
    pub(crate) fn new(
        memory: &GuestMemory,
        entry: Option<Entry>,
        cpuid: &CpuId,
        ring3: Ring3,
        controllers: Arc<Controllers>,
        attention: Arc<Attention>,
    ) -> Result<Self, KvmError> {
        let refused = |what| move |error: std::io::Error| KvmError::Call { what, source: error };
        let mut sregs = kvm_bindings::kvm_sregs::default();
        let mut general = kvm_bindings::kvm_regs::default();
        if let Some(entry) = entry {
            registers::set_system_registers(&mut sregs, entry, memory)
                .map_err(std::io::Error::other)
                .map_err(refused("build the first page tables"))?;
            general = registers::general_registers(entry);
        }
        let ram = Ram::map(memory).map_err(refused("map guest memory"))?;
        let cpuid = Cpuid::of_host(cpuid.as_slice());
        let mut cpu = Cpu::new(ram, &general, &sregs, cpuid.address_bits());
        cpu.xstate = Layout::from_cpuid(cpuid.entries());
        let clock = Clock::of_host(ring3.tsc_khz());
        cpu.system = System::new(cpuid, clock, Some(controllers.clone()));
        let interpreter = Interpreter::new(cpu);
        Ok(Self {
            interpreter,
            ring3,
            controllers,
            attention,
            memory: memory.clone(),
            rented: 0,
            counters: Counters::default(),
            idle: (tsc(), 0),
            start: tsc(),
            native: 0,
            halted: 0,
            is_halted: false,
            stops: Stops::default(),
        })
    }

    /// Delivers what waits, if the CPU takes it now.
    fn take_interrupt(&mut self) -> Result<(), CpuError> {
        if !self.controllers.pending() {
            return Ok(());
        }
        let cpu = &self.interpreter.cpu;
        let maskable = cpu.flags.rest() & flags::IF != 0 && !cpu.shadow;
        match self.controllers.take(Accepts { maskable, nmi: !cpu.system.nmi_blocked }) {
            Some(Interrupt::Vector(vector)) => self.deliver(Event::Interrupt(vector)),
            Some(Interrupt::Nmi) => self.deliver(Event::Nmi),
            None => Ok(()),
        }
    }

    fn deliver(&mut self, event: Event) -> Result<(), CpuError> {
        loop {
            match exception::deliver(&mut self.interpreter.cpu, event) {
                Ok(()) => return Ok(()),
                Err(Undelivered::Code) => self.interpreter.forget_written_code(),
                Err(Undelivered::TripleFault) => return Err(self.death("triple fault")),
                Err(Undelivered::OutsideRam) => {
                    return Err(self.death("a stack or table of the CPU is not in RAM"));
                }
            }
        }
    }

    /// Deals with what stopped the interpreter.
    fn stopped(&mut self, stop: Stop, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        let cpu = &mut self.interpreter.cpu;
        match stop {
            Stop::Done | Stop::Again | Stop::Code => Ok(None),
            Stop::Fault => match cpu.exception.take() {
                Some(exception) => self.deliver(Event::Exception(exception)).map(|()| None),
                None => Err(self.death("an exception without a cause")),
            },
            Stop::Halt => self.halt(handler),
            Stop::Port => self.access_port(handler),
            Stop::Device => self.access_device(handler),
            Stop::Extended => {
                cpu.extended = Some(Extended::new(self.ring3.extended_state()?));
                Ok(None)
            }
            Stop::Unknown if cpu.user => self.run_natively(handler),
            Stop::Unknown => Err(self.death("the interpreter does not know an instruction")),
        }
    }

    /// Waits for an interrupt. Nothing but an NMI, which this machine has not, ends a halt with interrupts disabled.
    fn halt(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        if self.interpreter.cpu.flags.rest() & flags::IF == 0 {
            return Ok(Some(Left::Halted));
        }
        self.is_halted = true;
        loop {
            self.controllers.advance(tsc());
            if self.controllers.pending() {
                self.is_halted = false;
                return Ok(None);
            }
            if self.attention.take() {
                let left = leaving(handler(Exit::Kicked));
                if left.is_some() {
                    return Ok(left);
                }
                continue;
            }
            let before = tsc();
            self.release_if_idle(before);
            self.attention.sleep(self.time_to_deadline());
            self.halted += tsc() - before;
        }
    }

    /// Gives the memory of decoded code back if hardly any has run for some time: an idle guest wakes up now and then,
    /// and decodes that little again.
    fn release_if_idle(&mut self, now: u64) {
        let done = self.interpreter.instructions;
        let (since, before) = self.idle;
        if self.time(now.saturating_sub(since)) < IDLE {
            return;
        }
        if done - before < IDLE_INSTRUCTIONS {
            self.interpreter.cache.release(&mut self.interpreter.cpu);
            heap::trim();
        }
        self.idle = (now, done);
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        Some(self.time(self.controllers.deadline()?.saturating_sub(tsc())))
    }

    fn time(&self, ticks: u64) -> Duration {
        Duration::from_nanos(self.interpreter.cpu.system.clock.scale().nanoseconds(ticks))
    }

    /// Makes the CPU, which is new, the one that was saved.
    ///
    /// # Errors
    /// The state is damaged, or cannot go on here.
    pub(crate) fn restore(&mut self, state: &Saved) -> Result<(), KvmError> {
        self.is_halted = CpuState::parse(state)?.set(&mut self.interpreter.cpu)?;
        Ok(())
    }

    /// Counts the kernel's instructions by address from now on.
    pub(crate) fn start_profile(&mut self) {
        self.interpreter.cache.start_profile();
    }

    fn access_port(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        let cpu = &mut self.interpreter.cpu;
        let Some(access) = cpu.port.take() else { return Ok(None) };
        let mut bytes = access.write.unwrap_or_default().to_le_bytes();
        let size = usize::from(access.size).min(bytes.len());
        let (data, _) = bytes.split_at_mut(size);
        let port = access.port;
        let action = if access.write.is_some() {
            if self.controllers.write_port(port, data, tsc()) {
                Action::Resume
            } else {
                handler(Exit::PortWrite { port, data })
            }
        } else if self.controllers.read_port(port, data, tsc()) {
            Action::Resume
        } else {
            handler(Exit::PortRead { port, data })
        };
        cpu.port_answer = Some(u32::from_le_bytes(bytes));
        Ok(exit_of(action))
    }

    fn access_device(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        let cpu = &mut self.interpreter.cpu;
        let Some(access) = cpu.device.take() else { return Ok(None) };
        let mut bytes = access.write.unwrap_or_default().to_le_bytes();
        let size = usize::from(access.size).min(bytes.len());
        let (data, _) = bytes.split_at_mut(size);
        let address = access.address;
        let action = if access.write.is_some() {
            if self.controllers.write_mmio(address, data, tsc()) {
                Action::Resume
            } else {
                handler(Exit::MmioWrite { address, data })
            }
        } else if self.controllers.read_mmio(address, data, tsc()) {
            Action::Resume
        } else {
            handler(Exit::MmioRead { address, data })
        };
        cpu.answered.push((access, u64::from_le_bytes(bytes)));
        Ok(exit_of(action))
    }

    /// Runs ring 3 under KVM until something happens.
    fn run_natively(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        let cpu = &mut self.interpreter.cpu;
        cpu.shadow = false;
        if let Some(extended) = cpu.extended.take().filter(|extended| extended.is_dirty) {
            self.ring3.set_extended_state(&extended.state)?;
        }
        if std::mem::take(&mut cpu.xcr0_is_new) {
            self.ring3.set_xcr0(cpu.xcr0)?;
        }
        if std::mem::take(&mut cpu.mmu.native_is_stale) {
            self.ring3.flush();
        }
        let (regs, sregs) = cpu.export();
        let mut state = Ring3State { regs, sregs, syscall: syscall_msrs(cpu) };
        let until = self.controllers.deadline();
        let (ring3, before) = (&mut self.ring3, tsc());
        let entered = self.attention.natively(|| ring3.enter(&mut state, until, handler));
        self.native += tsc() - before;
        let Some(exit) = entered else { return Ok(None) };
        self.counters.native_entries += 1;
        let exit = exit?;
        cpu.import(&state.regs, &state.sregs);
        match exit {
            Ring3Exit::Kernel => {
                let cpu = &mut self.interpreter.cpu;
                if cpu.is_at_handler(DEBUG_EXCEPTION) {
                    // What it was about: for a single step, that.
                    cpu.system.debug.status |= self.ring3.take_debug_status()?;
                }
                Ok(None)
            }
            Ring3Exit::Syscall | Ring3Exit::Kicked => Ok(None),
            Ring3Exit::Interpret => self.step_in_ring3(handler),
            Ring3Exit::Accessed(action) => Ok(exit_of(action)),
        }
    }

    /// Interprets an instruction that KVM cannot run.
    fn step_in_ring3(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        match self.interpreter.step() {
            Ok(()) => Ok(None),
            Err(Stop::Unknown) => Err(self.death("neither KVM nor the interpreter knows an instruction")),
            Err(stop) => self.stopped(stop, handler),
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Then, CpuError> {
        if !self.stops.is_empty() {
            return self.turn_to_stop(handler);
        }
        if self.is_halted {
            return self.halt(handler);
        }
        // A pause must find no instruction half done; the kick is looked at behind it.
        if self.interpreter.cpu.is_between_instructions()
            && self.attention.take()
            && let Some(left) = leaving(handler(Exit::Kicked))
        {
            return Ok(Some(left));
        }
        self.controllers.advance(tsc());
        self.take_interrupt()?;
        let interpreter = &mut self.interpreter;
        let pause = if std::mem::take(&mut interpreter.cpu.shadow) {
            // Interrupts come only behind the next instruction.
            interpreter.step().map_or_else(Pause::Stop, |()| Pause::Look)
        } else if !interpreter.cpu.user {
            self.rented = 0;
            let before = interpreter.instructions;
            let pause = interpreter.run(STRETCH, self.attention.wanted());
            self.counters.kernel_instructions += interpreter.instructions - before;
            pause
        } else if self.rented < RENT && may_interpret(&interpreter.cpu) {
            let before = interpreter.instructions;
            let pause = interpreter.run(RENT - self.rented, self.attention.wanted());
            self.rented += interpreter.instructions - before;
            pause
        } else {
            return self.run_natively(handler);
        };
        match pause {
            Pause::Look => Ok(None),
            Pause::Stop(stop) => self.stopped(stop, handler),
        }
    }

    fn death(&self, cause: &str) -> CpuError {
        let (regs, sregs) = self.interpreter.cpu.export();
        CpuError::Died(Box::new(Death::describe(cause.into(), &self.memory, regs.rip, &sregs, None)))
    }
}

/// Whether the interpreter can run the program that the CPU is in: 64-bit code that is not single-stepped.
fn may_interpret(cpu: &Cpu) -> bool {
    cpu.sregs.cs.l == 1 && cpu.flags.rest() & flags::TF == 0
}

fn syscall_msrs(cpu: &Cpu) -> SyscallMsrs {
    let msrs = &cpu.system.msrs;
    SyscallMsrs { star: msrs.star, lstar: msrs.lstar, fmask: msrs.fmask }
}

/// What follows from an answer to a kick, between two instructions.
fn leaving(action: Action) -> Then {
    match action {
        Action::Pause => Some(Left::Paused),
        action => exit_of(action),
    }
}

/// What follows from an answer in the middle of an instruction.
fn exit_of(action: Action) -> Then {
    match action {
        Action::Stop(exit) => Some(Left::Ended(exit)),
        // A halt for good is noticed as it happens, and a pause, which comes with a kick, behind the instruction.
        Action::Resume | Action::StopIfHalted | Action::Pause => None,
    }
}

impl CpuEngine for SoftCpu {
    fn kicker(&self) -> Arc<dyn Kick> {
        self.attention.clone()
    }

    fn run(&mut self, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Result<Left, CpuError> {
        self.ring3.adopt_thread()?;
        self.start = tsc();
        loop {
            if let Some(left) = self.turn(handler)? {
                return Ok(left);
            }
        }
    }

    fn save(&mut self) -> Result<Saved, CpuError> {
        let cpu = &self.interpreter.cpu;
        let state = match &cpu.extended {
            Some(extended) => CpuState::get(cpu, &*extended.state, self.is_halted),
            None => CpuState::get(cpu, &*self.ring3.extended_state()?, self.is_halted),
        };
        Ok(state.write()?)
    }

    fn profile(&mut self) -> Option<Profile> {
        let interpreter = &mut self.interpreter;
        let kernel = interpreter.cache.finish().into_iter().collect();
        let stats = interpreter.cache.stats;
        let all = tsc() - self.start;
        let counters = Counters {
            user_instructions: interpreter.instructions - self.counters.kernel_instructions,
            blocks: interpreter.blocks,
            decoded: stats.decoded + stats.straddling,
            rewritten: stats.rewritten,
            accesses: stats.accesses,
            walks: interpreter.cpu.mmu.walks,
            interpreting: self.time(all.saturating_sub(self.native + self.halted)),
            native: self.time(self.native),
            halted: self.time(self.halted),
            ..self.counters.clone()
        };
        tracing::debug!(?counters, ?stats, "the interpreter is done");
        Some(Profile { counters, kernel })
    }
}
