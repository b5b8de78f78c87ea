//! The breakpoints that the debugger has set. The guest's memory stays as it is: the engines stop at addresses.

/// Which kind the debugger asked for. Both are the same here, but it wants to hear which one was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Software,
    Hardware,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    set: Vec<(u64, Kind)>,
    /// Most addresses that the engine takes.
    most: usize,
}

impl Breakpoints {
    /// None yet, for an engine that takes so many.
    pub(super) fn up_to(most: usize) -> Self {
        Self { set: Vec::new(), most }
    }

    /// Sets one; whether there was room for it.
    pub(super) fn add(&mut self, address: u64, kind: Kind) -> bool {
        if self.set.contains(&(address, kind)) {
            return true;
        }
        if self.kind_at(address).is_none() && self.addresses().len() >= self.most {
            return false;
        }
        self.set.push((address, kind));
        true
    }

    /// Takes one away; whether it was there.
    pub(super) fn remove(&mut self, address: u64, kind: Kind) -> bool {
        let before = self.set.len();
        self.set.retain(|breakpoint| *breakpoint != (address, kind));
        self.set.len() < before
    }

    /// What is at `address`.
    pub(super) fn kind_at(&self, address: u64) -> Option<Kind> {
        self.set.iter().find(|(at, _)| *at == address).map(|(_, kind)| *kind)
    }

    /// Where they are, each address once.
    pub(super) fn addresses(&self) -> Vec<u64> {
        let mut addresses: Vec<u64> = self.set.iter().map(|(address, _)| *address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_once_and_goes_with_its_last_breakpoint() {
        let mut breakpoints = Breakpoints::up_to(1);
        assert!(breakpoints.add(7, Kind::Software));
        assert!(breakpoints.add(7, Kind::Software), "it is there already");
        assert!(breakpoints.add(7, Kind::Hardware));
        assert_eq!(breakpoints.addresses(), [7]);
        assert!(breakpoints.remove(7, Kind::Software));
        assert_eq!(breakpoints.kind_at(7), Some(Kind::Hardware));
        assert!(breakpoints.remove(7, Kind::Hardware));
        assert!(!breakpoints.remove(7, Kind::Hardware));
        assert!(breakpoints.addresses().is_empty());
    }

    #[test]
    fn more_than_the_engine_takes_are_refused() {
        let mut breakpoints = Breakpoints::up_to(2);
        assert!(breakpoints.add(1, Kind::Software) && breakpoints.add(2, Kind::Hardware));
        assert!(!breakpoints.add(3, Kind::Software));
        assert_eq!(breakpoints.addresses(), [1, 2]);
    }
}
