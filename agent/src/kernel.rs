//! What the agent's kernel can be told for the agent.

/// A variable of the agent's environment, and so a word of the kernel's command line: if it is there, the agent writes
/// [`READY_MARK`] to the VMM's boot timer when it has said that it is ready.
pub const MARK_VARIABLE: &str = "boot_mark";
/// That mark.
pub const READY_MARK: u8 = 1;
