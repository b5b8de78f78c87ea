//! From an exit to an action. No VM needed: scripted exits test it.

use crate::bus::Bus;
use crate::cpu::exit_counts::ExitCounts;
use crate::cpu::{Action, Exit};
use crate::machine::Requests;

/// What a vCPU's exits can reach.
#[derive(Debug)]
pub(crate) struct Machine {
    /// I/O ports.
    pub(crate) ports: Bus,
    /// Memory-mapped I/O.
    pub(crate) mmio: Bus,
    /// What devices and other threads ask of the vCPU.
    pub(crate) requests: std::sync::Arc<Requests>,
    /// What each vCPU exited for.
    pub(crate) exits: std::sync::Arc<[ExitCounts]>,
}

/// Carries out `exit` of vCPU `vcpu` on `machine` and says how that vCPU goes on.
pub(crate) fn handle(exit: Exit<'_>, machine: &Machine, vcpu: u8) -> Action {
    if let Some(exits) = machine.exits.get(usize::from(vcpu)) {
        exits.count(&exit);
    }
    match exit {
        Exit::PortRead { port, data } => machine.ports.read(port.into(), data),
        Exit::PortWrite { port, data } => machine.ports.write(port.into(), data),
        Exit::MmioRead { address, data } => machine.mmio.read(address, data),
        Exit::MmioWrite { address, data } => machine.mmio.write(address, data),
        Exit::Kicked => {}
    }
    machine.requests.take(vcpu)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::bus::BusDevice;
    use crate::legacy::i8042::{I8042, PORTS, PORTS_LEN};
    use crate::machine::VmExit;

    fn machine() -> Machine {
        Machine {
            ports: Bus::default(),
            mmio: Bus::default(),
            requests: Arc::default(),
            exits: Arc::new([ExitCounts::default()]),
        }
    }

    #[test]
    fn a_scripted_reset_through_the_keyboard_controller_stops_the_vcpu() {
        let mut machine = machine();
        let i8042 = Arc::new(Mutex::new(I8042::new(machine.requests.clone())));
        machine.ports.insert(PORTS, PORTS_LEN, i8042).unwrap();
        let mut status = [0xff];
        assert_eq!(handle(Exit::PortRead { port: 0x64, data: &mut status }, &machine, 0), Action::Resume);
        assert_eq!(status[0] & 0b10, 0, "the input buffer must be empty, or the guest waits");
        let exit = Exit::PortWrite { port: 0x64, data: &[0xfe] };
        assert_eq!(handle(exit, &machine, 0), Action::Stop(VmExit::Reset));
        let counted: u64 = machine.exits[0].counters().iter().map(|counter| counter.value).sum();
        assert_eq!(counted, 2);
    }

    #[test]
    fn accesses_to_nowhere_go_on_with_all_ones() {
        let machine = machine();
        let mut data = [0; 4];
        assert_eq!(
            handle(Exit::MmioRead { address: 0xd000_0000, data: &mut data }, &machine, 0),
            Action::Resume
        );
        assert_eq!(data, [0xff; 4]);
        assert_eq!(handle(Exit::PortWrite { port: 0xcf8, data: &[1, 2, 3, 4] }, &machine, 0), Action::Resume);
    }

    #[test]
    fn memory_mapped_exits_reach_their_device() {
        struct Echo;
        impl BusDevice for Echo {
            fn read(&mut self, offset: u64, data: &mut [u8]) {
                data.fill(u8::try_from(offset).unwrap());
            }
            fn write(&mut self, _: u64, _: &[u8]) {}
        }
        let mut machine = machine();
        machine.mmio.insert(0xd000_0000, 0x1000, Arc::new(Mutex::new(Echo))).unwrap();
        let mut data = [0; 4];
        handle(Exit::MmioRead { address: 0xd000_0070, data: &mut data }, &machine, 0);
        assert_eq!(data, [0x70; 4]);
    }

    #[test]
    fn a_kick_does_what_was_requested_and_only_once() {
        let machine = machine();
        assert_eq!(handle(Exit::Kicked, &machine, 0), Action::Resume);
        machine.requests.look_if_halted();
        assert_eq!(handle(Exit::Kicked, &machine, 0), Action::StopIfHalted);
        assert_eq!(handle(Exit::Kicked, &machine, 0), Action::Resume);
        machine.requests.end(VmExit::Stopped);
        assert_eq!(handle(Exit::Kicked, &machine, 0), Action::Stop(VmExit::Stopped));
    }
}
