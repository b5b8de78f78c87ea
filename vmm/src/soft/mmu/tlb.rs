//! The software TLB: direct-mapped, apart for reads, writes and instruction fetches, and for user and kernel code.
//!
//! An entry's tag holds a generation in its low twelve bits, so that flushing is counting up. The lower half of the
//! address space (processes) and the upper half (the kernel) count apart: a write to CR3 leaves the upper half alone as long as
//! everything in it is global.

/// Entries for each kind of access.
const ENTRIES: usize = 1024;
/// Generations are 1 to this and then start over, with everything cleared.
const LAST_GENERATION: u64 = 0xfff;
const PAGE_MASK: u64 = !0xfff;

/// What an access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    Read = 0,
    Write = 1,
    Execute = 2,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Virtual page and generation; no page has generation zero.
    tag: u64,
    /// Offset of the page in RAM.
    page: usize,
}

/// What one half of the address space keeps.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    /// An entry that is not global has been made since the last flush.
    has_local: bool,
    /// An entry of a large page has been made since the last flush: flushing a page must flush all of it.
    has_large: bool,
    /// Counts the flushes that concern decoded code.
    code_generation: u32,
}

/// The TLB.
#[derive(Debug)]
pub(crate) struct Tlb {
    /// By user or kernel code, then by kind.
    entries: Box<[[[Entry; ENTRIES]; 3]; 2]>,
    generations: [u64; 2],
    halves: [Half; 2],
}

impl Default for Tlb {
    fn default() -> Self {
        let entries = Box::new([[[Entry::default(); ENTRIES]; 3]; 2]);
        Self { entries, generations: [1; 2], halves: [Half::default(); 2] }
    }
}

fn half(linear: u64) -> usize {
    usize::from(linear >> 63 != 0)
}

/// Stacks and per-CPU data tend to be at round addresses: mixing keeps them apart.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
fn index(linear: u64) -> usize {
    (linear >> 12 ^ linear >> 22) as usize % ENTRIES
}

impl Tlb {
    /// The offset in RAM of the byte at `linear`, if the translation is known.
    #[inline(always)]
    pub(crate) fn find(&self, linear: u64, kind: Kind, user: bool) -> Option<usize> {
        let entry = &self.entries[usize::from(user)][kind as usize][index(linear)];
        let tag = linear & PAGE_MASK | self.generations[(linear >> 63) as usize];
        (entry.tag == tag).then_some(entry.page | (linear & !PAGE_MASK) as usize)
    }

    /// Remembers that the virtual page of `linear` is the page at offset `page`.
    pub(crate) fn insert(
        &mut self,
        linear: u64,
        kind: Kind,
        user: bool,
        page: usize,
        global: bool,
        large: bool,
    ) {
        let generation = self.generations[half(linear)];
        let half = &mut self.halves[half(linear)];
        half.has_local |= !global;
        half.has_large |= large;
        let entry = &mut self.entries[usize::from(user)][kind as usize][index(linear)];
        *entry = Entry { tag: linear & PAGE_MASK | generation, page };
    }

    /// A number that changes whenever code at `linear` may have moved in physical memory.
    #[inline(always)]
    pub(crate) fn code_generation(&self, linear: u64) -> u32 {
        self.halves[half(linear)].code_generation
    }

    fn flush_half(&mut self, which: usize) {
        let generation = &mut self.generations[which];
        *generation += 1;
        if *generation > LAST_GENERATION {
            *generation = 1;
            for entry in self.entries.as_flattened_mut().as_flattened_mut() {
                if half(entry.tag) == which {
                    *entry = Entry::default();
                }
            }
        }
        let code_generation = self.halves[which].code_generation.wrapping_add(1);
        self.halves[which] = Half { code_generation, ..Half::default() };
    }

    /// Forgets everything.
    pub(crate) fn flush_all(&mut self) {
        self.flush_half(0);
        self.flush_half(1);
    }

    /// Forgets at least everything that is not global.
    pub(crate) fn flush_non_global(&mut self) {
        self.flush_half(0);
        if self.halves[1].has_local {
            self.flush_half(1);
        }
    }

    /// Forgets the page of `linear`.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        let which = half(linear);
        if self.halves[which].has_large {
            return self.flush_half(which);
        }
        for kind in self.entries.as_flattened_mut() {
            let entry = &mut kind[index(linear)];
            if entry.tag & PAGE_MASK == linear & PAGE_MASK {
                *entry = Entry::default();
            }
        }
        let generation = &mut self.halves[which].code_generation;
        *generation = generation.wrapping_add(1);
    }

    /// Forgets all translations for writing to the page at offset `page`.
    pub(crate) fn forget_writes_to(&mut self, page: usize) {
        for entries in self.entries.iter_mut() {
            for entry in &mut entries[Kind::Write as usize] {
                if entry.page == page {
                    *entry = Entry::default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: u64 = 0x40_0000;
    const HIGH: u64 = 0xffff_ffff_8100_0000;

    fn with(linear: u64, global: bool, large: bool) -> Tlb {
        let mut tlb = Tlb::default();
        tlb.insert(linear, Kind::Read, false, 0x5000, global, large);
        tlb
    }

    fn find(tlb: &Tlb, linear: u64) -> Option<usize> {
        tlb.find(linear, Kind::Read, false)
    }

    #[test]
    fn a_translation_is_for_one_page_one_kind_and_one_privilege() {
        let tlb = with(LOW, false, false);
        assert_eq!(find(&tlb, LOW + 0x123), Some(0x5123));
        assert_eq!(find(&tlb, LOW + 0x1000), None);
        assert_eq!(find(&tlb, LOW + 0x1001 * ENTRIES as u64 * 0x1000), None);
        assert_eq!(tlb.find(LOW, Kind::Write, false), None);
        assert_eq!(tlb.find(LOW, Kind::Read, true), None);
    }

    #[test]
    fn global_translations_of_the_kernel_outlive_a_change_of_process() {
        let mut tlb = with(HIGH, true, true);
        tlb.flush_non_global();
        assert_eq!(find(&tlb, HIGH), Some(0x5000));
        tlb.insert(HIGH + 0x1000, Kind::Read, false, 0x6000, false, false);
        tlb.flush_non_global();
        assert_eq!((find(&tlb, HIGH), find(&tlb, HIGH + 0x1000)), (None, None));
    }

    #[test]
    fn flushing_a_page_flushes_the_large_page_around_it() {
        let mut tlb = with(LOW, false, true);
        tlb.flush_page(LOW + 0x10_0000);
        assert_eq!(find(&tlb, LOW), None);

        let mut tlb = with(LOW, false, false);
        tlb.flush_page(LOW + 0x10_0000);
        assert_eq!(find(&tlb, LOW), Some(0x5000));
        tlb.flush_page(LOW);
        assert_eq!(find(&tlb, LOW), None);
    }

    #[test]
    fn no_translation_survives_generations_starting_over() {
        let mut tlb = with(LOW, false, false);
        for _ in 0..=LAST_GENERATION {
            tlb.flush_all();
            assert_eq!(find(&tlb, LOW), None);
        }
    }

    #[test]
    fn writes_to_a_page_can_be_forgotten_wherever_it_is_mapped() {
        let mut tlb = with(LOW, false, false);
        tlb.insert(LOW, Kind::Write, false, 0x5000, false, false);
        tlb.insert(HIGH, Kind::Write, true, 0x5000, false, false);
        tlb.forget_writes_to(0x5000);
        assert_eq!((tlb.find(LOW, Kind::Write, false), tlb.find(HIGH, Kind::Write, true)), (None, None));
        assert!(find(&tlb, LOW).is_some());
    }
}
