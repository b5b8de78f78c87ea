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
use super::slots::{NONE, Slots};

/// With this many operations the cache starts over: 32 bytes each.
const MAX_OPS: usize = 1 << 19;
/// Room for this many at first: so much that each is a mapping of its own, which grows without a copy and leaves nothing behind,
/// and whose pages cost nothing before they are used.
const FIRST_BLOCKS: usize = 1 << 12;
const FIRST_OPS: usize = 1 << 12;
const FIRST_BYTES: usize = 1 << 17;
/// Longest instruction.
const MAX_LEN: usize = 15;
/// Bytes looked at for one block.
const WINDOW: usize = 255;

/// The start of no block: not canonical.
const NOWHERE: u64 = 1 << 63;

/// A run of decoded instructions.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Virtual address, [`NOWHERE`] for a block that has been forgotten.
    start: u64,
    /// What the TLB's generation of code was when the mapping was last looked at.
    generation: u32,
    /// Number of the page in RAM.
    page: u32,
    first_op: u32,
    first_byte: u32,
    /// Times it was run.
    runs: u32,
    /// Numbers of the blocks that came after this one the last times.
    next: [u32; 2],
    ops: u8,
    /// Bytes of code.
    len: u8,
    /// Accesses to memory of one run.
    accesses: u8,
    /// Of ring 3.
    user: bool,
}

const _: () = assert!(size_of::<Block>() == 40);

/// What a block must be to be run now.
#[derive(Clone, Copy)]
struct Wanted {
    start: u64,
    generation: u32,
    user: bool,
}

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
    slots: Slots,
    blocks: Vec<Block>,
    /// The block that ran last, which knows what tends to come next.
    last: u32,
    ops: Vec<Op>,
    /// Source bytes of the blocks of ring 3.
    bytes: Vec<u8>,
    /// Numbers of ring-0 blocks, by the offset of their page in RAM.
    pages: HashMap<usize, Vec<u32>>,
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
            slots: Slots::default(),
            blocks: Vec::new(),
            last: NONE,
            ops: Vec::new(),
            bytes: Vec::new(),
            pages: HashMap::new(),
            once: Vec::new(),
            stats: CacheStats::default(),
            profile: None,
        }
    }
}

/// Where the block of that number starts, if it is kept.
#[inline(always)]
fn start_of(blocks: &[Block], number: u32) -> Option<u64> {
    blocks.get(number as usize).map(|block| block.start).filter(|start| *start != NOWHERE)
}

impl Cache {
    /// The operations at the CPU's RIP.
    ///
    /// # Errors
    /// The instruction cannot be fetched.
    #[inline(always)]
    pub(crate) fn find(&mut self, cpu: &mut Cpu) -> Step<&[Op]> {
        let (start, user) = (cpu.rip, cpu.user);
        let wanted = Wanted { start, generation: cpu.mmu.tlb.code_generation(start), user };
        let next = self.blocks.get(self.last as usize).map_or([NONE; 2], |last| last.next);
        for number in next {
            if let Some(block) = self.blocks.get_mut(number as usize)
                && block.start == start
                && block.generation == wanted.generation
                && block.user == user
                && (!user || is_unchanged(&self.bytes, block, cpu))
            {
                self.last = number;
                block.runs = block.runs.saturating_add(1);
                let ops = block.ops();
                return Ok(&self.ops[ops]);
            }
        }
        self.find_by_address(cpu, wanted)
    }

    /// Finds the block where no link leads to it, and links it.
    fn find_by_address(&mut self, cpu: &mut Cpu, wanted: Wanted) -> Step<&[Op]> {
        let known = self.slots.find(wanted.start, |number| start_of(&self.blocks, number));
        let number = match self.blocks.get(known as usize) {
            Some(block)
                if block.start == wanted.start
                    && block.generation == wanted.generation
                    && block.user == wanted.user
                    && (!wanted.user || is_unchanged(&self.bytes, block, cpu)) =>
            {
                known
            }
            _ => match self.look_again(cpu, wanted, known)? {
                Some(number) => number,
                None => return self.decode_once(cpu),
            },
        };
        if let Some(last) = self.blocks.get_mut(self.last as usize) {
            last.next = [number, last.next[0]];
        }
        self.last = number;
        let block = &mut self.blocks[number as usize];
        block.runs = block.runs.saturating_add(1);
        let ops = block.ops();
        Ok(&self.ops[ops])
    }

    /// The number of the block once its address has been translated anew: `known` if that is still right, else one
    /// that is decoded now; `None` if the first instruction straddles two pages.
    #[cold]
    fn look_again(&mut self, cpu: &mut Cpu, wanted: Wanted, known: u32) -> Step<Option<u32>> {
        let Place::Ram(ram) = cpu.locate(wanted.start, Kind::Execute, wanted.user)? else {
            return Err(Stop::Unknown);
        };
        if let Some(block) = self.blocks.get_mut(known as usize)
            && block.start == wanted.start
            && block.user == wanted.user
            && block.ram() == ram
            && (!wanted.user || is_unchanged(&self.bytes, block, cpu))
        {
            block.generation = wanted.generation;
            return Ok(Some(known));
        }
        self.decode(cpu, wanted, ram)
    }

    fn decode(&mut self, cpu: &mut Cpu, wanted: Wanted, ram: usize) -> Step<Option<u32>> {
        if self.ops.len() > MAX_OPS {
            self.start_over(cpu);
        }
        if self.blocks.capacity() == 0 {
            self.blocks.reserve(FIRST_BLOCKS);
            self.ops.reserve(FIRST_OPS);
            self.bytes.reserve(FIRST_BYTES);
        }
        let mut window = [0; WINDOW];
        let len = (0x1000 - (ram & 0xfff)).min(WINDOW);
        cpu.mmu.ram.read(ram, &mut window[..len]);
        let (first_op, first_byte) = (self.ops.len(), self.bytes.len());
        let decoded = block::decode(&window[..len], wanted.start, &mut self.ops);
        if decoded.len == 0 {
            return Ok(None);
        }
        self.stats.decoded += 1;
        let narrow = "a block is short and the cache is bounded";
        let number = u32::try_from(self.blocks.len()).expect(narrow);
        if wanted.user {
            self.bytes.extend_from_slice(&window[..decoded.len]);
        } else {
            let page = ram & !0xfff;
            cpu.mmu.set_code(page, true);
            self.pages.entry(page).or_default().push(number);
        }
        self.blocks.push(Block {
            start: wanted.start,
            generation: wanted.generation,
            page: u32::try_from(ram >> 12).expect(narrow),
            first_op: u32::try_from(first_op).expect(narrow),
            first_byte: u32::try_from(first_byte).expect(narrow),
            runs: 0,
            next: [NONE; 2],
            ops: u8::try_from(self.ops.len() - first_op).expect(narrow),
            len: u8::try_from(decoded.len).expect(narrow),
            accesses: u8::try_from(decoded.accesses).expect(narrow),
            user: wanted.user,
        });
        self.slots.insert(number, |number| start_of(&self.blocks, number));
        Ok(Some(number))
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
        for number in self.pages.remove(&page).unwrap_or_default() {
            self.retire(number as usize);
        }
        cpu.mmu.set_code(page, false);
    }

    /// Lets nobody find a block any more, and counts its runs.
    fn retire(&mut self, number: usize) {
        let Some(block) = self.blocks.get_mut(number) else { return };
        let (start, runs) = (block.start, u64::from(block.runs));
        (block.start, block.runs) = (NOWHERE, 0);
        self.stats.accesses += runs * u64::from(block.accesses);
        if let Some(profile) = self.profile.as_mut().filter(|_| runs > 0 && !block.user) {
            *profile.entry(start).or_default() += runs * instructions(&self.ops[block.ops()]);
        }
    }

    /// Counts instructions by block from now on.
    pub(crate) fn start_profile(&mut self) {
        self.profile = Some(HashMap::new());
    }

    /// Empties the cache, for its figures: instructions of ring 0 by the address of their block.
    pub(crate) fn finish(&mut self) -> HashMap<u64, u64> {
        (0..self.blocks.len()).for_each(|number| self.retire(number));
        self.profile.take().unwrap_or_default()
    }

    /// Forgets everything and gives its memory back to the host.
    pub(crate) fn release(&mut self, cpu: &mut Cpu) {
        if !self.blocks.is_empty() {
            self.start_over(cpu);
            (self.slots, self.blocks) = (Slots::default(), Vec::new());
            (self.ops, self.bytes) = (Vec::new(), Vec::new());
        }
    }

    fn start_over(&mut self, cpu: &mut Cpu) {
        self.stats.started_over += 1;
        for page in self.pages.keys() {
            cpu.mmu.set_code(*page, false);
        }
        self.pages.clear();
        (0..self.blocks.len()).for_each(|number| self.retire(number));
        self.blocks.clear();
        self.slots.clear();
        self.last = NONE;
        self.ops.clear();
        self.bytes.clear();
    }
}

/// Whether what `block` of ring 3 was decoded from is still there; `bytes` are those of all blocks.
fn is_unchanged(bytes: &[u8], block: &Block, cpu: &Cpu) -> bool {
    let first = block.first_byte as usize;
    cpu.mmu.ram.holds(block.ram(), &bytes[first..first + usize::from(block.len)])
}
