//! An agent that answers for system calls: this program as a helper, `--helper agent SOCKET`.
//!
//! It writes what it was sent in one line, then one line for each call that it answers. Directories named `forbidden` it
//! refuses to make, directories named `pretended` it says it has made; everything else may go on.

#![expect(unsafe_code, reason = "the ioctls of a listener have no safe form")]

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// `struct seccomp_notif` of linux/seccomp.h.
#[repr(C)]
#[derive(Default)]
struct Request {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: rustix::ioctl::Opcode = opcode::read_write::<Request>(b'!', 0);
const SEND: rustix::ioctl::Opcode = opcode::read_write::<Response>(b'!', 1);
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const GO_ON: u32 = 1;

/// Serves one filter, until nobody has it any more.
pub(crate) fn run(args: &[String]) {
    let [path] = args else { panic!("a socket: {args:?}") };
    let waiting = UnixListener::bind(path).unwrap();
    say("waiting");
    let (stream, _) = waiting.accept().unwrap();
    let (message, listener) = receive(&stream);
    say(&message);
    while is_asked(&listener) {
        let mut request = Request::default();
        // SAFETY: the opcode is for a `Request`, and so is what it is given.
        let receive = unsafe { Updater::<RECEIVE, _>::new(&mut request) };
        // SAFETY: the kernel fills in one seccomp_notif, which `Request` is laid out as and which it wants zeroed.
        let asked = unsafe { ioctl(&listener, receive) };
        match asked {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        let (value, error, flags) = answer(&request);
        let mut response = Response { id: request.id, value, error, flags };
        // SAFETY: the opcode is for a `Response`, and so is what it is given.
        let send = unsafe { Updater::<SEND, _>::new(&mut response) };
        // SAFETY: the kernel reads one seccomp_notif_resp, which `Response` is laid out as.
        let _killed_meanwhile = unsafe { ioctl(&listener, send) };
    }
}

/// Waits for a call to answer; false once nobody runs with the filter.
fn is_asked(listener: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut ready, None).is_err() || !ready[0].revents().contains(PollFlags::HUP)
}

/// The return value, the error, and flags.
fn answer(request: &Request) -> (i64, i32, u32) {
    let call = i64::from(request.number);
    if call != libc::SYS_mkdir {
        say(&format!("call {call}"));
        return (0, 0, GO_ON);
    }
    let mut path = [0; 64];
    let memory = File::open(format!("/proc/{}/mem", request.pid)).unwrap();
    let length = memory.read_at(&mut path, request.args[0]).unwrap();
    let path = String::from_utf8_lossy(&path[..length]);
    let path = path.split('\0').next().unwrap().to_owned();
    say(&format!("mkdir {path}"));
    match path.rsplit('/').next() {
        Some("forbidden") => (0, -libc::EDQUOT, 0),
        Some("pretended") => (0, 0, 0),
        _ => (0, 0, GO_ON),
    }
}

fn receive(stream: &UnixStream) -> (String, OwnedFd) {
    let mut text = vec![0; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut text)];
    let received = recvmsg(stream.as_fd(), parts, &mut control, RecvFlags::empty()).unwrap();
    let mut descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let listener = descriptors.next().unwrap();
    assert!(descriptors.next().is_none());
    (String::from_utf8(text[..received.bytes].to_vec()).unwrap(), listener)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}
