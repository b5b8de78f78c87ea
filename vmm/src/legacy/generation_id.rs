//! The generation id: 16 random bytes in guest memory that change when the guest has become a copy of another, as
//! after a restore, and an interrupt that says so. Linux then reseeds its random generator at once.
//!
//! Microsoft, "Virtual Machine Generation ID"; kernel: drivers/virt/vmgenid.c. ACPI tells the guest where it is.

use std::io;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestAddress};

use crate::interrupt::InterruptLine;
use crate::memory::{GuestMemory, layout};

/// The id's place and its interrupt.
pub(crate) struct GenerationId {
    memory: GuestMemory,
    line: Arc<dyn InterruptLine>,
}

impl GenerationId {
    /// Gives the guest an id. `line` is input [`layout::GENERATION_IRQ`].
    ///
    /// # Errors
    /// The host gives no random bytes, or the guest's memory is too small.
    pub(crate) fn place(memory: &GuestMemory, line: Arc<dyn InterruptLine>) -> io::Result<Self> {
        let id = Self { memory: memory.clone(), line };
        id.write()?;
        Ok(id)
    }

    /// Tells the guest that it is a copy. For a restored one: when its state is complete and before its vCPUs run, so
    /// that the interrupt is there with the first instruction.
    ///
    /// # Errors
    /// The host gives no random bytes, or cannot signal the interrupt.
    pub(crate) fn renew(&self) -> io::Result<()> {
        self.write()?;
        self.line.trigger()
    }

    fn write(&self) -> io::Result<()> {
        let mut id = [0u8; 16];
        let len = getrandom(&mut id, GetRandomFlags::empty())?;
        if len < id.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.memory.write_slice(&id, GuestAddress(layout::GENERATION_ID)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::memory::map_guest_ram;

    #[derive(Default)]
    struct Line(AtomicU32);

    impl InterruptLine for Line {
        fn trigger(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    fn id(memory: &GuestMemory) -> u128 {
        memory.read_obj(GuestAddress(layout::GENERATION_ID)).unwrap()
    }

    #[test]
    fn each_generation_has_its_own_id_and_only_a_new_one_interrupts() {
        let (memory, line) = (map_guest_ram(layout::MIB).unwrap(), Arc::new(Line::default()));
        let generation = GenerationId::place(&memory, line.clone()).unwrap();
        let first = id(&memory);
        assert_ne!(first, 0);
        assert_eq!(line.0.load(Ordering::SeqCst), 0);
        generation.renew().unwrap();
        assert_ne!(id(&memory), first);
        assert_eq!(line.0.load(Ordering::SeqCst), 1);
    }
}
