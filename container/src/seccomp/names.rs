//! The numbers of system calls by name, to be looked up without anything being built first: a hash table that the compiler
//! has filled, open addressing, a fraction of it in use.

/// Places of a table: a power of two, and more than twice the calls of any architecture.
const SLOTS: usize = 1024;
/// No call has this number.
const FREE: u16 = u16::MAX;

/// The calls of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Numbers, each at its name's hash or in one of the places after that.
    slots: &'static [u16; SLOTS],
    name: fn(u16) -> Option<&'static str>,
}

impl Names {
    /// A table, as [`names`] fills it, and what it was filled from.
    pub(super) const fn new(slots: &'static [u16; SLOTS], name: fn(u16) -> Option<&'static str>) -> Self {
        Self { slots, name }
    }

    /// The number of the call of this name.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let start = hash(name.as_bytes());
        let numbers = (0..SLOTS).map(|step| self.slots[(start + step) % SLOTS]);
        let mut candidates = numbers.take_while(|number| *number != FREE);
        candidates.find(|number| (self.name)(*number) == Some(name)).map(u32::from)
    }
}

/// The calls that a `Sysno` of the crate `syscalls` lists.
macro_rules! names {
    ($calls:ty) => {{
        const fn filled() -> [u16; $crate::seccomp::names::Slots::COUNT] {
            let mut slots = $crate::seccomp::names::Slots::new();
            let mut number = 0;
            while (number as usize) < <$calls>::table_size() {
                if let Some(call) = <$calls>::new(number as usize) {
                    slots.insert(call.name(), number);
                }
                number += 1;
            }
            slots.0
        }
        static FILLED: [u16; $crate::seccomp::names::Slots::COUNT] = filled();
        $crate::seccomp::names::Names::new(&FILLED, |number| {
            <$calls>::new(usize::from(number)).map(|call| call.name())
        })
    }};
}
pub(super) use names;

/// A table that is being filled.
pub(super) struct Slots(pub(super) [u16; SLOTS]);

impl Slots {
    pub(super) const COUNT: usize = SLOTS;

    pub(super) const fn new() -> Self {
        Self([FREE; SLOTS])
    }

    pub(super) const fn insert(&mut self, name: &str, number: u16) {
        let mut at = hash(name.as_bytes());
        while self.0[at] != FREE {
            at = (at + 1) % SLOTS;
        }
        self.0[at] = number;
    }
}

/// FNV-1a, as far as it counts here.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found_and_nothing_else() {
        let native = names!(syscalls::Sysno);
        let all = syscalls::Sysno::iter().chain([syscalls::Sysno::last()]);
        for call in all {
            assert_eq!(native.number(call.name()), Some(call.id().unsigned_abs()), "{call}");
        }
        for name in ["", "no_such_call", "rea", "readd", "READ", "read\0"] {
            assert_eq!(native.number(name), None, "{name:?}");
        }
    }

    #[test]
    fn no_name_is_far_from_its_place() {
        let native = names!(syscalls::Sysno);
        let longest = native.slots.split(|number| *number == FREE).map(<[u16]>::len).max();
        assert!(longest.is_some_and(|length| length < 24), "{longest:?}");
    }
}
