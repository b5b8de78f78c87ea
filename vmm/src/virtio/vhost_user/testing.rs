//! The other side for tests: a backend that serves queues, or misbehaves at a request of one's choice.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::message::{HEADER, MAX_BODY, PROTOCOL_FEATURES, Request, protocol};

/// What the backend writes into each buffer that it may write.
pub(super) const SERVED: u8 = 0x5e;
/// Features: virtio 1 and a flush.
pub(super) const FEATURES: u64 = 1 << 32 | 1 << 9;
/// Each byte of the config space.
pub(super) const CONFIG: u8 = 0xc0;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it should, with acknowledgements.
    Good,
    /// As it should, without.
    Terse,
    /// It closes the connection instead of answering this.
    Closes(Request),
    /// It never answers this, and goes on to read.
    Silent(Request),
    /// It answers this with bytes that mean nothing.
    Garbage(Request),
    /// It answers this with half a header.
    Half(Request),
    /// It answers this with a body of another length.
    Long(Request),
    /// It says that this did not work.
    Refuses(Request),
    /// It ends at the first notification.
    DiesWhenNotified,
    /// It says something unasked at the first notification.
    TalksWhenNotified,
}

/// A backend in a thread of its own, until its peer is gone.
pub(super) struct FakeBackend {
    directory: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl FakeBackend {
    /// One that takes one connection and behaves like this.
    pub(super) fn start(manner: Manner) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let serve = move || {
            let (socket, _) = listener.accept().unwrap();
            Session { socket, manner, memory: None, queues: Vec::new() }.run();
        };
        Self { directory, thread: Some(thread::spawn(serve)) }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Waits for the end of the connection.
    pub(super) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

#[derive(Default)]
struct Ring {
    size: u16,
    addresses: [u64; 3],
    kick: Option<File>,
    call: Option<File>,
    queue: Option<Queue>,
}

struct Session {
    socket: UnixStream,
    manner: Manner,
    memory: Option<GuestMemoryMmap>,
    queues: Vec<Ring>,
}

fn long(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * index..8 * index + 8].try_into().unwrap())
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap())
}

impl Session {
    fn run(mut self) {
        loop {
            let ready: Vec<bool> = {
                let kicks = self.queues.iter().filter_map(|ring| ring.kick.as_ref());
                let mut polled: Vec<_> = kicks.map(|kick| PollFd::new(kick, PollFlags::IN)).collect();
                polled.push(PollFd::new(&self.socket, PollFlags::IN));
                poll(&mut polled, None).unwrap();
                polled.iter().map(|fd| !fd.revents().is_empty()).collect()
            };
            let (said, notified) = ready.split_last().unwrap();
            if *said && !self.handle() {
                return;
            }
            match self.manner {
                Manner::DiesWhenNotified if notified.contains(&true) => return,
                Manner::TalksWhenNotified if notified.contains(&true) => {
                    let _ = self.socket.write_all(b"by the way");
                    continue;
                }
                _ => {}
            }
            if notified.contains(&true)
                && let Some(memory) = &self.memory
            {
                self.queues.iter_mut().for_each(|ring| ring.serve(memory));
            }
        }
    }

    /// One message; false at the end.
    fn handle(&mut self) -> bool {
        let mut header = [0; HEADER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let taken = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut header)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        );
        if !taken.is_ok_and(|message| message.bytes == HEADER) {
            return false;
        }
        let files: Vec<OwnedFd> = beside
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                _ => Vec::new(),
            })
            .collect();
        let mut body = vec![0; word(&header, 2) as usize];
        assert!(body.len() <= MAX_BODY);
        self.socket.read_exact(&mut body).unwrap();
        let number = word(&header, 0);
        let answer = self.execute(number, &body, files);
        let wants_answer = answer.is_some() || word(&header, 1) & 8 != 0;
        self.respond(number, wants_answer.then(|| answer.unwrap_or_else(|| vec![0; 8])))
    }

    fn execute(&mut self, number: u32, body: &[u8], mut files: Vec<OwnedFd>) -> Option<Vec<u8>> {
        let is = |request: Request| number == request as u32;
        let with_index = Request::SetVringNum as u32..=Request::SetVringCall as u32;
        if with_index.contains(&number) && self.queues.len() <= word(body, 0) as usize {
            self.queues.push(Ring::default());
        }
        if is(Request::GetFeatures) {
            return Some((FEATURES | PROTOCOL_FEATURES).to_le_bytes().to_vec());
        } else if is(Request::GetProtocolFeatures) {
            let acknowledges = if self.manner == Manner::Terse { 0 } else { protocol::REPLY_ACK };
            let features = protocol::MQ | protocol::CONFIG | acknowledges | 1 << 40;
            return Some(features.to_le_bytes().to_vec());
        } else if is(Request::GetQueueNum) {
            return Some(2u64.to_le_bytes().to_vec());
        } else if is(Request::GetConfig) {
            let mut answer = body.to_vec();
            answer[12..].fill(CONFIG);
            return Some(answer);
        } else if is(Request::SetMemTable) {
            let regions = files.drain(..).enumerate().map(|(index, file)| {
                let at = 1 + 4 * index;
                let (base, len) = (long(body, at), long(body, at + 1) as usize);
                (GuestAddress(base), len, Some(FileOffset::new(File::from(file), long(body, at + 3))))
            });
            self.memory = Some(GuestMemoryMmap::from_ranges_with_files(regions).unwrap());
        } else if is(Request::GetVringBase) {
            let ring = &mut self.queues[word(body, 0) as usize];
            let next = ring.queue.take().map_or(0, |queue| queue.next_avail());
            ring.kick = None;
            return Some([word(body, 0), next.into()].map(u32::to_le_bytes).concat());
        } else if let Some(ring) =
            with_index.contains(&number).then(|| &mut self.queues[word(body, 0) as usize])
        {
            match number {
                8 => ring.size = word(body, 1) as u16,
                9 => ring.addresses = [long(body, 1), long(body, 2), long(body, 3)],
                12 => ring.kick = files.pop().map(File::from),
                13 => ring.call = files.pop().map(File::from),
                _ => {}
            }
            if number == Request::SetVringKick as u32 {
                ring.start();
            }
        }
        None
    }

    /// Answers in its manner; false at the end.
    fn respond(&mut self, number: u32, answer: Option<Vec<u8>>) -> bool {
        let is = |request: Request| number == request as u32;
        let framed =
            |body: &[u8]| [&[number, 5, body.len() as u32].map(u32::to_le_bytes).concat(), body].concat();
        let good = answer.as_deref().map(framed).unwrap_or_default();
        let bytes = match self.manner {
            Manner::Closes(request) if is(request) => return false,
            Manner::Silent(request) if is(request) => Vec::new(),
            Manner::Garbage(request) if is(request) => vec![0xff; 20],
            Manner::Half(request) if is(request) => good[..6].to_vec(),
            Manner::Long(request) if is(request) => framed(&[0; 99]),
            Manner::Refuses(request) if is(request) => framed(&[1, 0, 0, 0, 0, 0, 0, 0]),
            _ => good,
        };
        self.socket.write_all(&bytes).is_ok()
    }
}

impl Ring {
    fn start(&mut self) {
        let mut queue = Queue::new(1024).unwrap();
        let [descriptors, used, available] = self.addresses.map(GuestAddress);
        queue.set_size(self.size);
        queue.try_set_desc_table_address(descriptors).unwrap();
        queue.try_set_used_ring_address(used).unwrap();
        queue.try_set_avail_ring_address(available).unwrap();
        queue.set_ready(true);
        self.queue = Some(queue);
    }

    fn serve(&mut self, memory: &GuestMemoryMmap) {
        let (Some(kick), Some(call), Some(queue)) = (&mut self.kick, &mut self.call, &mut self.queue) else {
            return;
        };
        // The eventfd does not block.
        let _ = kick.read(&mut [0; 8]);
        let mut served = false;
        while let Some(chain) = queue.pop_descriptor_chain(memory) {
            let head = chain.head_index();
            let mut written = 0;
            for descriptor in chain.filter(virtio_queue::desc::split::Descriptor::is_write_only) {
                memory.write_slice(&vec![SERVED; descriptor.len() as usize], descriptor.addr()).unwrap();
                written += descriptor.len();
            }
            queue.add_used(memory, head, written).unwrap();
            served = true;
        }
        if served {
            call.write_all(&1u64.to_ne_bytes()).unwrap();
        }
    }
}
