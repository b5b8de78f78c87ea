//! Processes do not see each other's vector registers.

use super::{Outcome, at, code};
use crate::sys::process::{Ended, fork};
use crate::sys::vector::{Registers, While, has_avx, hold};

/// Processes that hold different values at once.
const PROCESSES: u64 = 4;

/// They call `sched_yield` in turn.
pub(crate) fn survives_giving_the_cpu_away() -> Outcome {
    several(While::Yielding, 10, 20)
}

/// They compute until the kernel takes the CPU away.
pub(crate) fn survives_losing_the_cpu() -> Outcome {
    several(While::Spinning, 5, 1_000_000)
}

fn several(how: While, times: u64, rounds: u64) -> Outcome {
    if !has_avx() {
        return Err("this CPU has no AVX2, which the check needs".into());
    }
    let one = |seed: u64| -> Outcome {
        for time in 0..times {
            let values = Registers::from_seed(seed * 1000 + time);
            let found = hold(&values, how, rounds);
            if let Some(what) = found.difference(&values) {
                return Err(format!("process {seed}, time {time}: {what}"));
            }
        }
        Ok(())
    };
    let children: Result<Vec<_>, _> = (1..=PROCESSES).map(|seed| fork(move || code(one(seed)))).collect();
    for child in children.map_err(at("fork"))? {
        let ended = child.wait().map_err(at("wait"))?;
        if ended != Ended::Exited(0) {
            return Err(format!("a process ended with {ended:?}"));
        }
    }
    Ok(())
}
