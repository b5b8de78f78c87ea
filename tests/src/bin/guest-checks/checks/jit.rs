//! Code that a program writes is the code that runs.

use super::{Outcome, at, expect};
use crate::sys::machine_code::Code;

/// `mov eax, VALUE; ret`.
fn answer(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code
}

/// Rewrites a function between calls, also one byte of it, also while it runs.
pub(crate) fn runs_what_was_last_written() -> Outcome {
    let code = Code::in_place().map_err(at("mmap"))?;
    rewrites(&code)?;
    // lea rax, [rip + 4]; mov [rax + 1], dil; mov eax, 1, which is where RAX points; ret
    let own = [0x48, 0x8d, 0x05, 4, 0, 0, 0, 0x40, 0x88, 0x78, 0x01, 0xb8, 1, 0, 0, 0, 0xc3];
    code.write(64, &own);
    for value in (0..=255u8).cycle().take(1000) {
        let found = code.call(64, value.into());
        expect(found == u64::from(value), || format!("{found} from code that wrote {value} into itself"))?;
    }
    Ok(())
}

/// The same through another mapping of the page.
pub(crate) fn runs_what_was_written_elsewhere() -> Outcome {
    rewrites(&Code::mapped_twice().map_err(at("map twice"))?)
}

fn rewrites(code: &Code) -> Outcome {
    for value in 0..2000u32 {
        code.write(0, &answer(value));
        for _ in 0..3 {
            let found = code.call(0, 0);
            expect(found == value.into(), || format!("{found} from code that answers {value}"))?;
        }
        let (low, high) = (value.to_le_bytes()[0] ^ 0x55, value & !0xff);
        code.write(1, &[low]);
        let found = code.call(0, 0);
        expect(found == u64::from(high | u32::from(low)), || {
            format!("{found:#x} after its byte became {low:#x}")
        })?;
    }
    Ok(())
}
