//! Instructions that CPUID says are not there: an invalid opcode, as on a CPU without them.

use iced_x86::{Instruction, Mnemonic};

use super::super::super::code::op::{Handler, Op};
use super::super::super::cpu::Cpu;
use super::super::super::step::{Exception, Step};

fn invalid(cpu: &mut Cpu, _: &Op) -> Step {
    cpu.raise(Exception::INVALID_OPCODE)
}

pub(super) fn translate(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    let is_hidden = matches!(
        instruction.mnemonic(),
        // SMAP, PKU, PCID.
        Mnemonic::Clac | Mnemonic::Stac | Mnemonic::Rdpkru | Mnemonic::Wrpkru | Mnemonic::Invpcid
        // Waiting.
        | Mnemonic::Monitor | Mnemonic::Mwait | Mnemonic::Monitorx | Mnemonic::Mwaitx
        | Mnemonic::Umonitor | Mnemonic::Umwait | Mnemonic::Tpause
        // VMX and SVM.
        | Mnemonic::Vmlaunch | Mnemonic::Vmresume | Mnemonic::Vmxon | Mnemonic::Vmxoff | Mnemonic::Vmfunc
        | Mnemonic::Vmptrld | Mnemonic::Vmptrst | Mnemonic::Vmclear | Mnemonic::Vmread | Mnemonic::Vmwrite
        | Mnemonic::Invept | Mnemonic::Invvpid | Mnemonic::Vmrun | Mnemonic::Vmload | Mnemonic::Vmsave
        | Mnemonic::Stgi | Mnemonic::Clgi | Mnemonic::Skinit | Mnemonic::Invlpga
        // System management, SMX, SGX, and what came late.
        | Mnemonic::Rsm | Mnemonic::Getsec | Mnemonic::Encls | Mnemonic::Enclu | Mnemonic::Enclv
        | Mnemonic::Rdpid | Mnemonic::Rdpru | Mnemonic::Invlpgb | Mnemonic::Tlbsync | Mnemonic::Pconfig
        | Mnemonic::Wrmsrns | Mnemonic::Wrmsrlist | Mnemonic::Rdmsrlist
    );
    is_hidden.then_some(invalid)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::tables::{enter_ring3, run_badly};

    #[test]
    fn what_cpuid_hides_is_invalid_in_any_ring() {
        for (code, name) in [
            (&[0x0f, 0x01, 0xca][..], "clac"),
            (&[0x0f, 0x01, 0xc8], "monitor"),
            (&[0x0f, 0x01, 0xc9], "mwait"),
            (&[0x66, 0x0f, 0x38, 0x82, 0x00], "invpcid"),
            (&[0x0f, 0x01, 0xee], "rdpkru"),
            (&[0x0f, 0x01, 0xc2], "vmlaunch"),
            (&[0x0f, 0xaa], "rsm"),
            (&[0xf3, 0x0f, 0xc7, 0xf8], "rdpid"),
        ] {
            assert_eq!(run_badly(code, |_| {}), (6, None), "{name}");
            assert_eq!(run_badly(code, enter_ring3), (6, None), "{name}");
        }
    }
}
