//! A port access as KVM reports it, turned into exits for the machine.

use kvm_bindings::kvm_run;

use crate::cpu::{Action, Exit};

/// Hands the items of a port access, one or (for string instructions) several, to the handler.
pub(super) fn port_access(run: &mut kvm_run, handler: &mut dyn FnMut(Exit<'_>) -> Action) -> Action {
    // SAFETY: KVM sets this member of the union for the exit that brought us here.
    let io = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(io.size);
    let start = std::ptr::from_mut(run).cast::<u8>();
    let mut action = Action::Resume;
    for item in 0..io.count as usize {
        let offset = usize::try_from(io.data_offset).unwrap_or_default() + item * size;
        // SAFETY: KVM places `count` items of `size` bytes at `data_offset` inside the mapping that `run` starts.
        let data = unsafe { start.add(offset) };
        // SAFETY: as above; `run` is borrowed exclusively, and the data lie behind its fields.
        let data = unsafe { std::slice::from_raw_parts_mut(data, size) };
        let after = if u32::from(io.direction) == kvm_bindings::KVM_EXIT_IO_IN {
            handler(Exit::PortRead { port: io.port, data })
        } else {
            handler(Exit::PortWrite { port: io.port, data })
        };
        if after != Action::Resume {
            action = after;
        }
    }
    action
}
