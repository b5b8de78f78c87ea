//! Where memory operands lie: mostly where they can, often where they cannot.

use super::layout::{CODE, CODE_LEN, DATA, KERNEL_STACK};
use super::random::Random;

const PAGE: u64 = 0x1000;

/// The linear address of an operand of `size` bytes.
pub(super) fn linear(random: &mut Random, size: u64) -> u64 {
    let page = |number: u64| DATA + number * PAGE;
    let inside = |random: &mut Random, number| page(number) + random.below(PAGE - size.min(PAGE) + 1);
    // So that some bytes are on either side, if there is more than one.
    let straddling =
        |random: &mut Random, number| page(number).wrapping_sub(1 + random.below(size.max(2) - 1));
    match random.below(100) {
        0..55 => {
            let number = random.below(2);
            inside(random, number)
        }
        55..64 => page(random.below(2)) + random.below(PAGE / 16) * 16,
        64..72 => straddling(random, 1),
        72..80 => {
            let number = random.below(8);
            inside(random, number)
        }
        80..94 => {
            let number = random.below(9);
            straddling(random, number)
        }
        94..95 => CODE + random.below(CODE_LEN),
        95..96 => KERNEL_STACK + random.below(64),
        96..97 => (1 << 47) + random.below(size),
        97..98 => (1u64 << 47).wrapping_neg().wrapping_sub(size + random.below(size)),
        98..99 => random.below(2 * size).wrapping_sub(size),
        _ => random.next(),
    }
}
