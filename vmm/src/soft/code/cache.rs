//! Remembers decoded blocks by the address they are at.
//!
//! A block of ring 0 is valid as long as its page maps to the same RAM, which is looked at again after each flush, and
//! as long as nobody writes there: the page is marked, and the first write to it makes the interpreter forget its
//! blocks. A block of ring 3 is compared with its bytes each time, because native ring 3 and devices write unseen.

use std::collections::HashMap;
use std::ops::Range;

use super::super::cpu::Cpu;
use super::super::mmu::Place;
use super::super::mmu::tlb::Kind;
use super::super::step::{Step, Stop};
use super::block;
use super::op::{Op, instructions};

/// Places for blocks, each for one of the addresses that share it.
const SLOTS: usize = 1 << 16;
/// With this many operations the cache starts over: 32 bytes each.
const MAX_OPS: usize = 1 << 19;
/// Longest instruction.
const MAX_LEN: usize = 15;
/// Bytes looked at for one block.
const WINDOW: usize = 255;

/// The start of no block: not canonical.
const NOWHERE: u64 = 1 << 63;

/// A run of decoded instructions: half a cache line.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Virtual address.
    start: u64,
    /// What the TLB's generation of code was when the mapping was last looked at.
    generation: u32,
    /// Number of the page in RAM.
    page: u32,
    first_op: u32,
    first_byte: u32,
    /// Times it was run.
    runs: u32,
    ops: u8,
    /// Bytes of code.
    len: u8,
    /// Accesses to memory of one run.
    accesses: u8,
    /// Of ring 3.
    user: bool,
}

const _: () = assert!(size_of::<Block>() == 32);

const EMPTY: Block = Block {
    start: NOWHERE,
    generation: 0,
    page: 0,
    first_op: 0,
    first_byte: 0,
    runs: 0,
    ops: 0,
    len: 0,
    accesses: 0,
    user: false,
};

impl Block {
    /// Its operations among all.
    #[inline(always)]
    fn ops(&self) -> Range<usize> {
        let first = self.first_op as usize;
        first..first + usize::from(self.ops)
    }

    /// Offset of the first byte in RAM.
    fn ram(&self) -> usize {
        (self.page as usize) << 12 | (self.start & 0xfff) as usize
    }
}

/// What there is to say about how well the cache did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    /// Accesses to memory of the blocks that are no longer kept.
    pub(crate) accesses: u64,
    /// Blocks decoded.
    pub(crate) decoded: u64,
    /// Instructions that straddle two pages, which are decoded each time.
    pub(crate) straddling: u64,
    /// Pages whose blocks were forgotten because something wrote there.
    pub(crate) rewritten: u64,
    /// Times that the cache was full and started over.
    pub(crate) started_over: u64,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Empty until the first block is remembered.
    slots: Vec<Block>,
    ops: Vec<Op>,
    /// Source bytes of the blocks of ring 3.
    bytes: Vec<u8>,
    /// Slots of ring-0 blocks, by the offset of their page in RAM.
    pages: HashMap<usize, Vec<usize>>,
    /// What was last decoded without being remembered.
    once: Vec<Op>,
    pub(crate) stats: CacheStats,
    /// Instructions by the address of their block, for blocks of ring 0 that are no longer kept; `None` if nobody
    /// wants to know.
    profile: Option<HashMap<u64, u64>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            ops: Vec::new(),
            bytes: Vec::new(),
            pages: HashMap::new(),
            once: Vec::new(),
            stats: CacheStats::default(),
            profile: None,
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
fn slot_of(rip: u64) -> usize {
    (rip ^ rip >> 16) as usize % SLOTS
}

impl Cache {
    /// The operations at the CPU's RIP.
    ///
    /// # Errors
    /// The instruction cannot be fetched.
    #[inline(always)]
    pub(crate) fn find(&mut self, cpu: &mut Cpu) -> Step<&[Op]> {
        let (rip, user) = (cpu.rip, cpu.user);
        let generation = cpu.mmu.tlb.code_generation(rip);
        let slot = slot_of(rip);
        let is_right =
            |block: &&Block| block.start == rip && block.user == user && block.generation == generation;
        if let Some(block) = self.slots.get(slot).filter(is_right)
            && (!user || self.is_unchanged(block, cpu))
        {
            let ops = block.ops();
            let runs = &mut self.slots[slot].runs;
            *runs = runs.saturating_add(1);
            return Ok(&self.ops[ops]);
        }
        self.find_slowly(cpu)
    }

    /// Whether the bytes that `block` was decoded from are still there.
    fn is_unchanged(&self, block: &Block, cpu: &Cpu) -> bool {
        let first = block.first_byte as usize;
        cpu.mmu.ram.holds(block.ram(), &self.bytes[first..first + usize::from(block.len)])
    }

    #[cold]
    fn find_slowly(&mut self, cpu: &mut Cpu) -> Step<&[Op]> {
        let (rip, user) = (cpu.rip, cpu.user);
        let Place::Ram(ram) = cpu.locate(rip, Kind::Execute, user)? else { return Err(Stop::Unknown) };
        let generation = cpu.mmu.tlb.code_generation(rip);
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, EMPTY);
        }
        let slot = slot_of(rip);
        let block = self.slots[slot];
        let same = block.start == rip && block.user == user && block.ram() == ram;
        if same && (!user || self.is_unchanged(&block, cpu)) {
            let runs = block.runs.saturating_add(1);
            self.slots[slot] = Block { generation, runs, ..block };
            return Ok(&self.ops[block.ops()]);
        }
        if self.ops.len() > MAX_OPS {
            self.start_over(cpu);
        }
        let mut window = [0; WINDOW];
        let len = (0x1000 - (ram & 0xfff)).min(WINDOW);
        cpu.mmu.ram.read(ram, &mut window[..len]);
        let (first_op, first_byte) = (self.ops.len(), self.bytes.len());
        let decoded = block::decode(&window[..len], rip, &mut self.ops);
        let used = decoded.len;
        if used == 0 {
            return self.decode_once(cpu);
        }
        self.stats.decoded += 1;
        self.retire(slot);
        if user {
            self.bytes.extend_from_slice(&window[..used]);
        } else {
            let page = ram & !0xfff;
            cpu.mmu.set_code(page, true);
            self.pages.entry(page).or_default().push(slot);
        }
        let narrow = "a block is short and the cache is bounded";
        self.slots[slot] = Block {
            start: rip,
            generation,
            page: u32::try_from(ram >> 12).expect(narrow),
            first_op: u32::try_from(first_op).expect(narrow),
            first_byte: u32::try_from(first_byte).expect(narrow),
            ops: u8::try_from(self.ops.len() - first_op).expect(narrow),
            len: u8::try_from(used).expect(narrow),
            accesses: u8::try_from(decoded.accesses).expect(narrow),
            user,
            runs: 1,
        };
        Ok(&self.ops[first_op..])
    }

    /// The operation at the CPU's RIP, decoded for this once and not remembered.
    ///
    /// # Errors
    /// The instruction cannot be fetched.
    pub(crate) fn decode_once(&mut self, cpu: &mut Cpu) -> Step<&[Op]> {
        let Place::Ram(ram) = cpu.locate(cpu.rip, Kind::Execute, cpu.user)? else {
            return Err(Stop::Unknown);
        };
        let mut bytes = [0; MAX_LEN];
        let in_page = 0x1000 - (ram & 0xfff);
        let first = in_page.min(MAX_LEN);
        cpu.mmu.ram.read(ram, &mut bytes[..first]);
        self.once.clear();
        if first < MAX_LEN && block::decode_one(&bytes[..first], cpu.rip, &mut self.once) == 0 {
            // It goes on in the next page.
            self.stats.straddling += 1;
            let next_page = cpu.rip.wrapping_add(in_page as u64);
            let Place::Ram(ram) = cpu.locate(next_page, Kind::Execute, cpu.user)? else {
                return Err(Stop::Unknown);
            };
            cpu.mmu.ram.read(ram, &mut bytes[first..]);
        }
        if self.once.is_empty() {
            block::decode_one(&bytes, cpu.rip, &mut self.once);
        }
        Ok(&self.once)
    }

    /// Forgets the blocks of ring 0 in the page at offset `page` of RAM.
    pub(crate) fn forget(&mut self, page: usize, cpu: &mut Cpu) {
        self.stats.rewritten += 1;
        for slot in self.pages.remove(&page).unwrap_or_default() {
            let block = self.slots[slot];
            if !block.user && block.ram() & !0xfff == page {
                self.retire(slot);
            }
        }
        cpu.mmu.set_code(page, false);
    }

    /// Empties a slot, and counts what ran there.
    fn retire(&mut self, slot: usize) {
        let block = std::mem::replace(&mut self.slots[slot], EMPTY);
        let runs = u64::from(block.runs);
        self.stats.accesses += runs * u64::from(block.accesses);
        if let Some(profile) = self.profile.as_mut().filter(|_| runs > 0 && !block.user) {
            *profile.entry(block.start).or_default() += runs * instructions(&self.ops[block.ops()]);
        }
    }

    /// Counts instructions by block from now on.
    pub(crate) fn start_profile(&mut self) {
        self.profile = Some(HashMap::new());
    }

    /// Empties the cache, for its figures: instructions of ring 0 by the address of their block.
    pub(crate) fn finish(&mut self) -> HashMap<u64, u64> {
        (0..self.slots.len()).for_each(|slot| self.retire(slot));
        self.profile.take().unwrap_or_default()
    }

    /// Forgets everything and gives its memory back to the host.
    pub(crate) fn release(&mut self, cpu: &mut Cpu) {
        if self.ops.is_empty() {
            return;
        }
        self.start_over(cpu);
        (self.slots, self.ops, self.bytes) = (Vec::new(), Vec::new(), Vec::new());
    }

    fn start_over(&mut self, cpu: &mut Cpu) {
        self.stats.started_over += 1;
        for page in self.pages.keys() {
            cpu.mmu.set_code(*page, false);
        }
        self.pages.clear();
        (0..self.slots.len()).for_each(|slot| self.retire(slot));
        self.ops.clear();
        self.bytes.clear();
    }
}
