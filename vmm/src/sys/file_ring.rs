//! An io_uring for one file: vectored reads and writes between the file and guest memory, and data syncs, many at once.
//!
//! The ring can do nothing else. It is made with the file as its only file and with restrictions that the kernel holds
//! it to (Linux 5.10), since a seccomp filter does not see what goes through a ring.
//!
//! What the kernel has been given it may use until it reports completion. So everything that a request points to stays
//! in its [`Slot`] until then: the I/O vector, and a handle on guest memory, which keeps the memory mapped. A ring that
//! goes away first waits for what it has started; if that fails, it leaks the slots rather than free them. The guest may
//! change the bytes meanwhile, which the kernel copies as it finds them; no Rust reference to them exists.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};
use vm_memory::VolatileSlice;

use crate::memory::GuestMemory;

/// Place of the file in the ring's table.
const FILE: Fixed = Fixed(0);
/// Most slices of one request (IOV_MAX).
const MAX_SLICES: usize = 1024;
/// How often the kernel is asked again when it has no memory for a request.
const ATTEMPTS: usize = 100;

/// A ring, with a `T` for each request in progress.
#[derive(Debug)]
pub(crate) struct FileRing<T> {
    ring: Ring,
    slots: Vec<Option<Slot<T>>>,
    /// Empty places in `slots`.
    free: Vec<usize>,
    capacity: usize,
}

/// What a request in progress needs.
#[derive(Debug)]
struct Slot<T> {
    tag: T,
    held: Held,
}

/// What the kernel uses until the request is complete.
#[derive(Debug)]
struct Held {
    _memory: Option<GuestMemory>,
    _vector: Vector,
}

#[derive(Debug)]
struct Vector(Vec<libc::iovec>);

// SAFETY: the pointers are for the kernel only; what they point to is mapped for all threads.
unsafe impl Send for Vector {}

struct Ring(IoUring);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl<T> FileRing<T> {
    /// A ring of `capacity` requests at once for `file`, which signals the eventfd `done` when requests are complete.
    ///
    /// # Errors
    ///
    /// The host has no io_uring, does not let this process use it, or cannot restrict it.
    pub(crate) fn new(file: &File, done: impl AsFd, capacity: u16) -> io::Result<Self> {
        let ring = IoUring::builder().setup_r_disabled().build(u32::from(capacity))?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_submit_stable() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let submitter = ring.submitter();
        submitter.register_files(&[file.as_raw_fd()])?;
        submitter.register_eventfd(done.as_fd().as_raw_fd())?;
        submitter.register_restrictions(&mut [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
            Restriction::sqe_flags_allowed((Flags::FIXED_FILE | Flags::IO_DRAIN).bits()),
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
        ])?;
        submitter.register_enable_rings()?;
        let capacity = usize::from(capacity);
        Ok(Self { ring: Ring(ring), slots: Vec::new(), free: Vec::new(), capacity })
    }

    /// Requests in progress, begun or about to be.
    pub(crate) fn in_progress(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another request may be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.in_progress() < self.capacity
    }

    /// Fills `slices` of `memory` from byte `offset` of the file. There must be room.
    ///
    /// # Errors
    ///
    /// The request as a whole is not possible. `tag` is gone then.
    pub(crate) fn read(
        &mut self,
        tag: T,
        memory: &GuestMemory,
        slices: &[VolatileSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let (vector, count) = vector_of(slices)?;
        let entry = opcode::Readv::new(FILE, vector.0.as_ptr(), count).offset(offset).build();
        self.push(entry, Slot { tag, held: Held { _memory: Some(memory.clone()), _vector: vector } })
    }

    /// Writes `slices` of `memory` at byte `offset` of the file, `durable` as with `RWF_DSYNC`. There must be room.
    ///
    /// # Errors
    ///
    /// The request as a whole is not possible. `tag` is gone then.
    pub(crate) fn write(
        &mut self,
        tag: T,
        memory: &GuestMemory,
        slices: &[VolatileSlice<'_>],
        offset: u64,
        durable: bool,
    ) -> io::Result<()> {
        let (vector, count) = vector_of(slices)?;
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry =
            opcode::Writev::new(FILE, vector.0.as_ptr(), count).offset(offset).rw_flags(flags).build();
        self.push(entry, Slot { tag, held: Held { _memory: Some(memory.clone()), _vector: vector } })
    }

    /// Puts all that was written before on stable storage, and begins nothing else until that is done. There must be
    /// room.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub(crate) fn sync_data(&mut self, tag: T) -> io::Result<()> {
        let entry = opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build().flags(Flags::IO_DRAIN);
        self.push(entry, Slot { tag, held: Held { _memory: None, _vector: Vector(Vec::new()) } })
    }

    fn push(&mut self, entry: Entry, slot: Slot<T>) -> io::Result<()> {
        if !self.has_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        // `FIXED_FILE` comes with the type `Fixed`.
        let entry = entry.user_data(index as u64);
        // SAFETY: the request's pointers are into the vector of its slot and into guest memory, which the slot's handle
        // keeps mapped; the slot stays until completion. The vector's heap block does not move with the slot.
        let pushed = unsafe { self.ring.0.submission().push(&entry) };
        if pushed.is_err() {
            self.free.push(index);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.slots[index] = Some(slot);
        Ok(())
    }

    /// Begins what was asked for since the last call.
    ///
    /// # Errors
    ///
    /// The kernel takes no more requests: the ring is of no use any more, and only [`Self::abandon`] makes sense.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        let mut attempts = 0;
        while !self.ring.0.submission().is_empty() {
            match self.ring.0.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_shortage(&error) && attempts < ATTEMPTS => {
                    attempts += 1;
                    std::thread::yield_now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until a request is complete, if there is one that was begun.
    ///
    /// # Errors
    ///
    /// As for [`Self::submit`].
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.submit()?;
        while self.in_progress() > 0 && self.ring.0.completion().is_empty() {
            match self.ring.0.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is_shortage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a complete request, with the bytes read or written, which may be fewer than wanted.
    pub(crate) fn take_complete(&mut self) -> Option<(T, io::Result<usize>)> {
        loop {
            let entry = self.ring.0.completion().next()?;
            let result =
                usize::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
            let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            if let Some(slot) = self.slots.get_mut(index).and_then(Option::take) {
                self.free.push(index);
                return Some((slot.tag, result));
            }
        }
    }

    /// Stops or resumes signalling the eventfd. A request that completes in between is not signalled afterwards: look for
    /// it.
    pub(crate) fn signal(&mut self, wanted: bool) {
        let completion = self.ring.0.completion();
        if wanted { completion.enable_eventfd() } else { completion.disable_eventfd() }
    }

    /// Gives up a ring that fails. What was in progress may still happen, so what it needs is never freed.
    pub(crate) fn abandon(&mut self) -> Vec<T> {
        self.free.clear();
        let slots = std::mem::take(&mut self.slots).into_iter().flatten();
        let leak = |slot: Slot<T>| {
            std::mem::forget(slot.held);
            slot.tag
        };
        slots.map(leak).collect()
    }
}

impl<T> Drop for FileRing<T> {
    fn drop(&mut self) {
        while self.in_progress() > 0 {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "cannot wait for the requests of a ring");
                self.abandon();
            }
            while self.take_complete().is_some() {}
        }
    }
}

/// Slices as the kernel wants them, and how many.
fn vector_of(slices: &[VolatileSlice<'_>]) -> io::Result<(Vector, u32)> {
    if slices.len() > MAX_SLICES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let vector = slices
        .iter()
        .map(|slice| libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() });
    let vector: Vec<_> = vector.collect();
    let count = u32::try_from(vector.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok((Vector(vector), count))
}

/// The kernel may have memory for a request later.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;

    use rustix::event::{EventfdFlags, eventfd};
    use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};

    use super::*;

    struct Fixture {
        memory: GuestMemory,
        file: File,
        done: OwnedFd,
    }

    impl Fixture {
        fn new() -> Self {
            let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(b"0123456789", 0).unwrap();
            Self { memory, file, done: eventfd(0, EventfdFlags::NONBLOCK).unwrap() }
        }

        /// A ring, or `None` with a word about it where the host has none.
        fn ring<T>(&self, capacity: u16) -> Option<FileRing<T>> {
            FileRing::new(&self.file, &self.done, capacity)
                .inspect_err(|error| tracing::warn!(%error, "skipped: no io_uring on this host"))
                .ok()
        }

        fn slices(&self, address: u64, length: usize) -> Vec<VolatileSlice<'_>> {
            let slices = self.memory.get_slices(GuestAddress(address), length, Permissions::ReadWrite);
            slices.unwrap().collect::<Result<_, _>>().unwrap()
        }
    }

    #[test]
    fn reads_writes_and_syncs_in_place_and_signals() {
        let fixture = Fixture::new();
        let Some(mut ring) = fixture.ring(4) else { return };
        let slices = [fixture.slices(0x100, 3), fixture.slices(0x200, 4)].concat();
        ring.read("read", &fixture.memory, &slices, 2).unwrap();
        ring.wait().unwrap();
        assert_eq!(ring.take_complete().map(|(tag, result)| (tag, result.unwrap())), Some(("read", 7)));
        assert_eq!(fixture.memory.read_obj::<[u8; 4]>(GuestAddress(0x200)).unwrap(), *b"5678");
        assert!(rustix::io::read(&fixture.done, &mut [0; 8]).is_ok(), "the eventfd is signalled");
        ring.write("write", &fixture.memory, &slices, 0, true).unwrap();
        ring.sync_data("sync").unwrap();
        let mut results = Vec::new();
        while results.len() < 2 {
            ring.wait().unwrap();
            results.extend(ring.take_complete().map(|(tag, result)| (tag, result.unwrap())));
        }
        assert_eq!(results, [("write", 7), ("sync", 0)]);
        let mut bytes = [0; 10];
        fixture.file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"2345678789");
    }

    #[test]
    fn takes_no_more_than_it_has_room_for_and_is_short_at_the_end_of_the_file() {
        let fixture = Fixture::new();
        let Some(mut ring) = fixture.ring(2) else { return };
        let slices = fixture.slices(0, 8);
        ring.read(1, &fixture.memory, &slices, 0).unwrap();
        ring.read(2, &fixture.memory, &slices, 5).unwrap();
        assert!(!ring.has_room() && ring.read(3, &fixture.memory, &slices, 0).is_err());
        let mut results = Vec::new();
        while ring.in_progress() > 0 {
            ring.wait().unwrap();
            results.extend(ring.take_complete().map(|(tag, result)| (tag, result.unwrap())));
        }
        results.sort_unstable();
        assert_eq!(results, [(1, 8), (2, 5)]);
        assert!(ring.has_room());
    }

    #[test]
    fn the_kernel_holds_the_ring_to_its_purpose() {
        let fixture = Fixture::new();
        let Some(mut ring) = fixture.ring(2) else { return };
        let held = || Held { _memory: None, _vector: Vector(Vec::new()) };
        let other_file = opcode::Fsync::new(io_uring::types::Fd(fixture.file.as_raw_fd())).build();
        ring.push(other_file, Slot { tag: "a file by number", held: held() }).unwrap();
        let other_operation = opcode::Fallocate::new(FILE, 1 << 30).build();
        ring.push(other_operation, Slot { tag: "another operation", held: held() }).unwrap();
        for _ in 0..2 {
            ring.wait().unwrap();
            let (tag, result) = ring.take_complete().unwrap();
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES), "{tag}");
        }
        assert_eq!(fixture.file.metadata().unwrap().len(), 10);
    }

    #[test]
    fn memory_outlives_what_was_begun_on_it() {
        let fixture = Fixture::new();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let Ok(mut ring) = FileRing::new(&File::from(reader), &fixture.done, 2) else { return };
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let slices: Vec<_> = memory
            .get_slices(GuestAddress(0), 4, Permissions::ReadWrite)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        ring.read((), &memory, &slices, u64::MAX).unwrap();
        ring.submit().unwrap();
        drop(slices);
        drop(memory);
        assert!(ring.take_complete().is_none(), "an empty pipe has it wait");
        let kept = ring.slots[0].as_ref().unwrap().held._memory.clone().unwrap();
        rustix::io::write(&writer, b"late").unwrap();
        ring.wait().unwrap();
        assert_eq!(ring.take_complete().unwrap().1.unwrap(), 4);
        assert_eq!(kept.read_obj::<[u8; 4]>(GuestAddress(0)).unwrap(), *b"late");
    }

    #[test]
    fn a_ring_that_goes_away_waits_for_what_it_has_begun() {
        let fixture = Fixture::new();
        let Some(mut ring) = fixture.ring(64) else { return };
        let slices = fixture.slices(0, 4096);
        fixture.memory.write_slice(&[7; 4096], GuestAddress(0)).unwrap();
        for block in 0..64 {
            ring.write((), &fixture.memory, &slices, block * 4096, false).unwrap();
        }
        drop(ring);
        let mut bytes = vec![0; 64 * 4096];
        fixture.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 7));
    }
}
