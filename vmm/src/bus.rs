//! The two buses of the machine, I/O ports and memory-mapped I/O: an address finds the device whose window
//! holds it.
//!
//! Both are plain sorted tables. A guest may access any address with any width, so nothing here can fail:
//! an access that no device answers reads as all ones and a write to it is dropped, as on a real bus.

use std::sync::{Arc, Mutex, PoisonError};

/// A device that sits on a bus, addressed relative to the start of its window.
pub trait BusDevice: Send {
    /// Fills `data` with what the guest reads at `offset`.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Takes the `data` that the guest writes at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A device as buses and event loops share it.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Two windows on one bus would overlap.
#[derive(Debug, thiserror::Error)]
#[error("bus window {base:#x}+{len:#x} overlaps another device or the end of the address space")]
pub struct WindowTaken {
    /// First address of the refused window.
    pub base: u64,
    /// Length of the refused window in bytes.
    pub len: u64,
}

struct Window {
    base: u64,
    len: u64,
    device: SharedDevice,
}

/// Windows sorted by address.
#[derive(Default)]
pub struct Bus {
    windows: Vec<Window>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.windows.iter().map(|w| (w.base, w.len))).finish()
    }
}

impl Bus {
    /// Places `device` at `base`, `len` bytes long.
    ///
    /// # Errors
    /// The window is empty, passes the end of the address space or overlaps another one.
    pub fn insert(&mut self, base: u64, len: u64, device: SharedDevice) -> Result<(), WindowTaken> {
        let taken = WindowTaken { base, len };
        let end = base.checked_add(len).filter(|_| len > 0).ok_or(WindowTaken { base, len })?;
        let at = self.windows.partition_point(|w| w.base < base);
        let overlaps_previous =
            at.checked_sub(1).and_then(|i| self.windows.get(i)).is_some_and(|w| w.base + w.len > base);
        let overlaps_next = self.windows.get(at).is_some_and(|w| w.base < end);
        if overlaps_previous || overlaps_next {
            return Err(taken);
        }
        self.windows.insert(at, Window { base, len, device });
        Ok(())
    }

    /// Reads `data.len()` bytes at `address`; all ones where nothing answers.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => {
                device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
            }
            None => data.fill(0xff),
        }
    }

    /// Writes `data` at `address`; dropped where nothing answers.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        }
    }

    /// The device whose window holds the whole access, and the offset in it.
    fn find(&self, address: u64, len: usize) -> Option<(&SharedDevice, u64)> {
        let last = self.windows.partition_point(|w| w.base <= address).checked_sub(1)?;
        let window = self.windows.get(last)?;
        let offset = address - window.base;
        let end = offset.checked_add(len as u64)?;
        (end <= window.len).then_some((&window.device, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers reads with its mark and remembers the last write.
    struct Probe {
        mark: u8,
        last: Option<(u64, Vec<u8>)>,
    }

    impl BusDevice for Probe {
        fn read(&mut self, _: u64, data: &mut [u8]) {
            data.fill(self.mark);
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.last = Some((offset, data.to_vec()));
        }
    }

    fn probe(mark: u8) -> Arc<Mutex<Probe>> {
        Arc::new(Mutex::new(Probe { mark, last: None }))
    }

    #[test]
    fn an_access_reaches_the_device_whose_window_holds_it() {
        let (low, high) = (probe(1), probe(2));
        let mut bus = Bus::default();
        bus.insert(0x1000, 0x10, high.clone()).unwrap();
        bus.insert(0x100, 0x10, low.clone()).unwrap();
        let mut data = [0; 2];
        bus.read(0x10e, &mut data);
        assert_eq!(data, [1, 1]);
        bus.write(0x1004, &[7]);
        assert_eq!(high.lock().unwrap().last, Some((4, vec![7])));
        assert_eq!(low.lock().unwrap().last, None);
    }

    #[test]
    fn an_access_to_nowhere_reads_all_ones_and_drops_writes() {
        let device = probe(1);
        let mut bus = Bus::default();
        bus.insert(0x100, 0x10, device.clone()).unwrap();
        for address in [0, 0xff, 0x10f, 0x110, u64::MAX] {
            let mut data = [0; 2];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff, 0xff], "at {address:#x}");
            bus.write(address, &[1, 2]);
        }
        assert_eq!(device.lock().unwrap().last, None);
    }

    #[test]
    fn overlapping_windows_are_refused() {
        let mut bus = Bus::default();
        bus.insert(0x100, 0x10, probe(0)).unwrap();
        for (base, len) in [(0x100, 0x10), (0xff, 2), (0x10f, 1), (0x0, 0x1000), (0x200, 0), (u64::MAX, 2)] {
            assert!(bus.insert(base, len, probe(0)).is_err(), "{base:#x}+{len:#x}");
        }
        bus.insert(0x110, 0x10, probe(0)).unwrap();
        bus.insert(0xf0, 0x10, probe(0)).unwrap();
    }
}
