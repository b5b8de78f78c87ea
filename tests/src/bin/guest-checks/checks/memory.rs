//! What a program does to its memory holds from the next instruction on: no translation outlives its page table entry.

use std::sync::atomic::Ordering::SeqCst;

use super::{Outcome, at, code, expect, sum};
use crate::sys::mapping::{Access, Mapping, PAGE};
use crate::sys::process::{Ended, fork};
use crate::sys::signals::{self, Then};

/// Pages are written, protected, written again, which must fault, many times.
pub(crate) fn protection_holds_from_the_next_instruction() -> Outcome {
    const PAGES: usize = 8;
    signals::catch(libc::SIGSEGV, Then::Unprotect).map_err(at("sigaction"))?;
    let pages = Mapping::private(PAGES).map_err(at("mmap"))?;
    for round in 0..200usize {
        let value = round.to_le_bytes()[0];
        let access = if round % 2 == 0 { Access::Read } else { Access::None };
        (0..PAGES).for_each(|page| pages.write(page * PAGE, value));
        pages.protect(access).map_err(at("mprotect"))?;
        let page = round % PAGES;
        let before = signals::caught().count;
        pages.write(page * PAGE + 8, value);
        let caught = signals::caught();
        expect(caught.count == before + 1 && caught.address == pages.address() + page * PAGE + 8, || {
            format!("round {round}: a store to a page with {access:?} went through: {caught:x?}")
        })?;
        pages.protect(Access::Write).map_err(at("mprotect"))?;
        for page in 0..PAGES {
            expect(pages.read(page * PAGE) == value, || format!("round {round}: page {page} has changed"))?;
        }
        expect(pages.read(page * PAGE + 8) == value, || format!("round {round}: the store is lost"))?;
    }
    Ok(())
}

/// What was given up does not come back.
pub(crate) fn discarded_pages_are_zero() -> Outcome {
    let pages = Mapping::private(64).map_err(at("mmap"))?;
    for round in 1..50u8 {
        for page in 0..64 {
            expect(pages.read(page * PAGE) == 0, || format!("round {round}: page {page} is not zero"))?;
            pages.write(page * PAGE, round);
        }
        pages.discard().map_err(at("madvise"))?;
    }
    // The same address, mapped anew each time.
    let address = pages.address();
    drop(pages);
    for round in 1..100u8 {
        let pages = Mapping::private_at(address, 4).map_err(at("mmap at the old address"))?;
        let found = (0..4).map(|page| pages.read(page * PAGE)).max();
        expect(found == Some(0), || format!("round {round}: a new page has {found:?} in it"))?;
        (0..4).for_each(|page| pages.write(page * PAGE, round));
    }
    Ok(())
}

/// Two places exchange their pages again and again.
pub(crate) fn moved_pages_are_gone_from_where_they_were() -> Outcome {
    let mut pages = Mapping::private(16).map_err(at("mmap"))?;
    (0..16u8).for_each(|page| pages.write(usize::from(page) * PAGE, page + 1));
    signals::catch(libc::SIGSEGV, Then::Skip(0)).map_err(at("sigaction"))?;
    for round in 0..100 {
        let old = pages.address();
        pages = pages.moved().map_err(at("mremap"))?;
        for page in 0..16u8 {
            let found = pages.read(usize::from(page) * PAGE);
            expect(found == page + 1, || format!("round {round}: page {page} has {found} in it"))?;
        }
        // What is mapped at the old place is not what was there.
        let fresh = Mapping::private_at(old, 16).map_err(at("mmap at the old address"))?;
        let found = (0..16).map(|page| fresh.read(page * PAGE)).max();
        expect(found == Some(0), || format!("round {round}: the old place still has {found:?}"))?;
    }
    Ok(())
}

/// A parent and its children write to the same pages at once.
pub(crate) fn children_do_not_see_each_other() -> Outcome {
    const PAGES: usize = 64;
    let pages = Mapping::private(PAGES).map_err(at("mmap"))?;
    (0..PAGES).for_each(|page| pages.write(page * PAGE, 1));
    let gate = Mapping::shared(1).map_err(at("mmap"))?;
    let work = |own: u8| -> Outcome {
        for round in 0..5u8 {
            for page in 0..PAGES {
                let (expected, next) = if round == 0 { (1, own) } else { (own + round - 1, own + round) };
                let found = pages.read(page * PAGE);
                expect(found == expected, || {
                    format!("{own}, round {round}: page {page} has {found}, not {expected}")
                })?;
                pages.write(page * PAGE, next);
            }
            gate.word(0).fetch_add(1, SeqCst);
            std::thread::yield_now();
        }
        Ok(())
    };
    let children: Result<Vec<_>, _> = (0..4u8).map(|child| fork(|| code(work(10 + 10 * child)))).collect();
    let children = children.map_err(at("fork"))?;
    work(100)?;
    for child in children {
        let ended = child.wait().map_err(at("wait"))?;
        expect(ended == Ended::Exited(0), || format!("a child ended with {ended:?}"))?;
    }
    let rounds = gate.word(0).load(SeqCst);
    expect(rounds == 25, || format!("{rounds} rounds of 25 arrived in shared memory"))
}

/// A word that two processes count up together.
pub(crate) fn shared_pages_are_shared() -> Outcome {
    const EACH: u64 = 20_000;
    let page = Mapping::shared(1).map_err(at("mmap"))?;
    let count = || {
        for _ in 0..EACH {
            page.word(8).fetch_add(1, SeqCst);
        }
        0
    };
    let children: Result<Vec<_>, _> = (0..3).map(|_| fork(count)).collect();
    for child in children.map_err(at("fork"))? {
        child.wait().map_err(at("wait"))?;
    }
    let found = page.word(8).load(SeqCst);
    expect(found == 3 * EACH, || format!("{found} of {} additions arrived", 3 * EACH))
}

/// Forks while most of memory is in use: each child writes to a third of what it has in common with its parent.
pub(crate) fn survives_forks_while_memory_is_short() -> Outcome {
    const BYTES: usize = 24 << 20;
    let word = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut bytes: Vec<u8> = (0..BYTES / 8).flat_map(word).collect();
    let expected = sum(&bytes);
    std::fs::write("/tmp/big", &bytes).map_err(at("write a big file"))?;
    for child in 0..12u8 {
        let third = BYTES / 3 * usize::from(child % 3);
        let mut work = || -> Outcome {
            for _ in 0..2 {
                bytes[third..third + BYTES / 3].iter_mut().for_each(|byte| *byte ^= child + 1);
            }
            expect(sum(&bytes) == expected, || format!("child {child}: its copy has changed"))
        };
        let ended = fork(|| code(work())).and_then(|child| child.wait()).map_err(at("fork"))?;
        expect(ended == Ended::Exited(0), || format!("child {child} ended with {ended:?}"))?;
    }
    let found = sum(&std::fs::read("/tmp/big").map_err(at("read the big file"))?);
    std::fs::remove_file("/tmp/big").map_err(at("remove the big file"))?;
    expect(found == expected, || format!("the file's sum is {found:#x}, not {expected:#x}"))?;
    expect(sum(&bytes) == expected, || "the parent's memory has changed".to_owned())
}
