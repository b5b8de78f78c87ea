//! The socket between the two halves: whole messages as JSON, with descriptors where they are needed.
//!
//! A sequential-packet socket keeps messages apart, so several threads of the VMM, and its signal handler, send without a
//! lock, and a message is never half there.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message to the VMM, in bytes: a configuration with a path of full length for each of its files.
const LONGEST: usize = 160 << 10;
/// Longest message from the VMM, which a hostile guest may have taken over, in bytes.
pub(super) const LONGEST_FROM_VM: usize = 8 << 10;
/// Most descriptors in one message; the kernel takes 253.
const MOST_DESCRIPTORS: usize = 64;

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// What has arrived.
#[derive(Debug)]
pub(super) enum Received<T> {
    /// A message, with the descriptors that came along.
    Message(T, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other half is gone.
    End,
}

impl Channel {
    /// Two ends that know each other.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that `socket` is.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends a message, waiting until there is room for it.
    ///
    /// # Errors
    /// The other half is gone, or the message is too long.
    pub(super) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, descriptors, SendFlags::NOSIGNAL)
    }

    /// Sends a message if there is room for it.
    ///
    /// # Errors
    /// As for [`Self::send`]; `WouldBlock` if there is no room.
    pub(super) fn try_send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > LONGEST || descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the machine's configuration is too long; shorten its paths or its command line",
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a message to the VMM.
    ///
    /// # Errors
    /// What came is no such message.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Received<T>> {
        self.receive_up_to(LONGEST, RecvFlags::empty())
    }

    /// Takes the next message of at most `longest` bytes if there is one.
    ///
    /// # Errors
    /// What came is no such message.
    pub(super) fn try_receive<T: DeserializeOwned>(&self, longest: usize) -> io::Result<Received<T>> {
        self.receive_up_to(longest, RecvFlags::DONTWAIT)
    }

    fn receive_up_to<T: DeserializeOwned>(
        &self,
        longest: usize,
        flags: RecvFlags,
    ) -> io::Result<Received<T>> {
        let mut bytes = vec![0; longest];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
                Ok(received) => break received,
                // The other end is gone and had not read all. That is said once, before what it sent.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
                Err(error) => return Err(error.into()),
            }
        };
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                descriptors.extend(more);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        Ok(Received::Message(serde_json::from_slice(&bytes[..received.bytes])?, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn ends() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::new(theirs))
    }

    #[test]
    fn messages_arrive_whole_and_with_their_descriptors() {
        let (parent, child) = ends();
        let (mut reader, writer) = std::io::pipe().unwrap();
        parent.send(&"x".repeat(100_000), &[writer.as_fd()]).unwrap();
        drop(writer);
        let Received::Message(text, mut descriptors) = child.receive::<String>().unwrap() else { panic!() };
        assert_eq!((text.len(), descriptors.len()), (100_000, 1));
        std::fs::File::from(descriptors.remove(0)).write_all(b"through it").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through it");
    }

    #[test]
    fn a_message_that_is_too_long_or_none_is_an_error_and_no_more() {
        let (parent, child) = ends();
        assert!(parent.send(&"x".repeat(LONGEST), &[]).unwrap_err().to_string().contains("too long"));
        child.send(&"x".repeat(LONGEST_FROM_VM), &[]).unwrap();
        child.send(&[1, 2], &[]).unwrap();
        child.send(&"sense", &[]).unwrap();
        assert!(parent.try_receive::<String>(LONGEST_FROM_VM).is_err(), "too long");
        assert!(parent.try_receive::<String>(LONGEST_FROM_VM).is_err(), "no string");
        let last = parent.try_receive::<String>(LONGEST_FROM_VM).unwrap();
        assert!(matches!(last, Received::Message(text, _) if text == "sense"));
    }

    #[test]
    fn an_end_is_told_from_silence() {
        let (parent, child) = ends();
        assert!(matches!(parent.try_receive::<String>(9).unwrap(), Received::Nothing));
        drop(child);
        assert!(matches!(parent.try_receive::<String>(9).unwrap(), Received::End));
        assert!(parent.send(&"anybody there?", &[]).is_err());
    }

    #[test]
    fn what_the_other_end_said_last_arrives_though_it_did_not_listen() {
        let (parent, child) = ends();
        parent.send(&"stop", &[]).unwrap();
        child.send(&"ended", &[]).unwrap();
        drop(child);
        let last = parent.try_receive::<String>(9).unwrap();
        assert!(matches!(last, Received::Message(text, _) if text == "ended"));
        assert!(matches!(parent.try_receive::<String>(9).unwrap(), Received::End));
    }

    #[test]
    fn events_that_nobody_takes_are_refused_rather_than_waited_for() {
        let (_parent, child) = ends();
        let refused = (0..100_000).find_map(|n| child.try_send(&n).err()).expect("there is an end to it");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
