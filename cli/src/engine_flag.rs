//! `--engine`: what runs a guest's kernel.

/// The flag, for commands that start a virtual machine.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct EngineFlag {
    /// What runs the guest's kernel: KVM, or our interpreter, which is far faster where the CPU lacks virtualisation; its
    /// programs run natively with both
    #[arg(
        long,
        env = "CARVE_ENGINE",
        value_enum,
        default_value = "auto",
        value_name = "auto|kvm|soft",
        hide_possible_values = true
    )]
    engine: Choice,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Choice {
    /// KVM where the CPU has virtualisation, the interpreter elsewhere
    Auto,
    /// KVM
    Kvm,
    /// The interpreter
    Soft,
}

impl EngineFlag {
    /// The engine that was chosen.
    pub(crate) fn engine(self) -> vmm::Engine {
        match self.engine {
            Choice::Auto => vmm::Engine::Auto,
            Choice::Kvm => vmm::Engine::Kvm,
            Choice::Soft => vmm::Engine::Soft,
        }
    }
}
