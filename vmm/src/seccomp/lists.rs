//! The lists.
//!
//! They were found by tracing the threads of machines with every device under both engines, and hold what a filter's
//! violation in any test has added since. What is not needed is not there: no process or thread made, nothing made executable,
//! no socket of a network; only the thread that serves clients who name files opens any.

use super::ThreadKind;
use super::allowed::{Allowed, Only, any, only};
use super::requests;

/// The calls of one kind of thread.
pub(super) fn of(kind: ThreadKind) -> Vec<Allowed> {
    let own: &[&[Allowed]] = match kind {
        ThreadKind::Main => &[MAIN],
        ThreadKind::Api => &[MAIN, API],
        ThreadKind::ApiWithFiles => &[MAIN, API, FILES],
        ThreadKind::Devices => &[DEVICES],
        ThreadKind::Vcpu => &[VCPU],
        ThreadKind::Debugger => &[DEBUGGER],
    };
    own.iter().chain(&[EVERY_THREAD]).copied().flatten().copied().collect()
}

/// What every thread needs.
pub(super) const EVERY_THREAD: &[Allowed] = &[
    any(libc::SYS_futex, "locks and channels between threads"),
    any(libc::SYS_read, "events and streams"),
    any(libc::SYS_write, "events, streams, the log, the word about a forbidden call"),
    any(libc::SYS_close, "what it opened"),
    only(
        libc::SYS_fcntl,
        Only::OneOf(1, &[libc::F_GETFD as u64]),
        "a debug build checks descriptors before it closes them",
    ),
    any(libc::SYS_sendmsg, "events for the parent; data of the guest's for a socket"),
    any(libc::SYS_sendto, "sockets; the handler of a signal wakes the event loop"),
    only(libc::SYS_mmap, Only::NotExecutable, "the allocator"),
    any(libc::SYS_munmap, "the allocator; what a thread had"),
    only(libc::SYS_mprotect, Only::NotExecutable, "the allocator"),
    any(libc::SYS_mremap, "the allocator"),
    any(libc::SYS_brk, "the allocator"),
    any(libc::SYS_madvise, "the allocator; memory that the guest gives back"),
    any(libc::SYS_getrandom, "seeds of hash tables"),
    any(libc::SYS_gettid, "names of threads in messages"),
    any(libc::SYS_getpid, "signals to its own threads"),
    any(libc::SYS_sched_yield, "a lock that is about to be free"),
    any(libc::SYS_clock_gettime, "clocks of the process's CPU time, which no page has"),
    any(libc::SYS_rt_sigprocmask, "the end of a thread; a panic"),
    any(libc::SYS_rt_sigreturn, "the end of a signal's handler"),
    any(libc::SYS_sigaltstack, "the end of a thread"),
    any(libc::SYS_restart_syscall, "the kernel has it made after a stop"),
    only(libc::SYS_tgkill, Only::Ourselves, "kicks of vCPUs; abort"),
    only(
        libc::SYS_prctl,
        Only::OneOf(0, &[libc::PR_GET_NAME as u64]),
        "its name in the word about a forbidden call",
    ),
    any(libc::SYS_exit, "the end of a thread"),
    any(libc::SYS_exit_group, "the end of the process"),
];

pub(super) const MAIN: &[Allowed] = &[
    any(libc::SYS_poll, "waiting for the parent and for the guest's end"),
    any(libc::SYS_ppoll, "the same with a time limit"),
    any(libc::SYS_recvmsg, "what the parent says"),
    any(libc::SYS_io_uring_enter, "a snapshot waits for the disks' requests"),
    any(libc::SYS_preadv, "a request of which the ring has done a part"),
    any(libc::SYS_pwritev, "the same"),
    any(libc::SYS_fdatasync, "the same"),
    only(libc::SYS_ioctl, Only::OneOf(1, requests::MAIN), "what vCPUs share, for snapshots"),
];

/// What the main thread needs besides where it serves a control socket.
pub(super) const API: &[Allowed] = &[
    any(libc::SYS_accept4, "clients"),
    any(libc::SYS_recvfrom, "requests"),
    only(libc::SYS_ioctl, Only::OneOf(1, &[libc::FIONBIO]), "clients that nobody waits for"),
    any(libc::SYS_pread64, "KVM's own figures"),
    any(libc::SYS_timerfd_create, "rate limits that there were not"),
    any(libc::SYS_timerfd_settime, "rate limits"),
    any(libc::SYS_epoll_ctl, "the same"),
    any(libc::SYS_fstat, "a disk's size"),
    any(libc::SYS_statx, "a disk's size"),
    any(libc::SYS_lseek, "a disk's size"),
];

/// What it needs besides where clients name files.
pub(super) const FILES: &[Allowed] = &[
    any(libc::SYS_openat, "files that clients name, in the jail's root"),
    any(libc::SYS_ftruncate, "the length of a snapshot's memory"),
    any(libc::SYS_sendfile, "the memory, from file to file"),
    any(libc::SYS_pwrite64, "the mark at the end of a diff"),
    any(libc::SYS_fsync, "a snapshot is whole or not there"),
    any(libc::SYS_rename, "the same"),
    any(libc::SYS_unlink, "the same"),
    any(libc::SYS_flock, "a disk has one writer"),
    any(libc::SYS_io_uring_setup, "a ring for a disk's new file"),
    any(libc::SYS_io_uring_register, "the same"),
];

pub(super) const DEVICES: &[Allowed] = &[
    any(libc::SYS_epoll_wait, "waiting for queues, taps, sockets, timers, input"),
    any(libc::SYS_epoll_pwait, "the same"),
    any(libc::SYS_epoll_ctl, "sockets that come and go"),
    any(libc::SYS_poll, "whether a console's input or output, which may block, is ready"),
    any(libc::SYS_ppoll, "the same with a time limit"),
    any(libc::SYS_readv, "frames from a tap"),
    any(libc::SYS_writev, "frames to a tap"),
    any(libc::SYS_preadv, "reads of a disk"),
    any(libc::SYS_pwritev, "writes of a disk"),
    any(libc::SYS_pread64, "reads of a disk"),
    any(libc::SYS_pwrite64, "writes of a disk"),
    any(libc::SYS_fsync, "flushes of a disk"),
    any(libc::SYS_fdatasync, "flushes of a disk"),
    any(libc::SYS_fallocate, "discards and zeroes of a disk; memory that the guest gives back"),
    any(libc::SYS_lseek, "a disk's size"),
    any(libc::SYS_fstat, "a disk's size"),
    any(libc::SYS_statx, "a disk's size"),
    any(libc::SYS_io_uring_enter, "reads and writes of a disk, many at a time"),
    any(libc::SYS_timerfd_settime, "rate limits; the watch for a guest that has halted"),
    any(libc::SYS_accept4, "clients of the socket device, and of the console's socket"),
    only(libc::SYS_socket, Only::OneOf(0, &[libc::AF_UNIX as u64]), "connections of the guest's to the host"),
    any(libc::SYS_connect, "connections of the guest's to the host"),
    any(libc::SYS_recvfrom, "the first line of a client of the socket device"),
    any(libc::SYS_recvmsg, "sockets"),
    any(libc::SYS_shutdown, "half-closed connections"),
    any(libc::SYS_getsockopt, "whether a connection has come about"),
    only(
        libc::SYS_fcntl,
        Only::OneOf(1, &[libc::F_GETFL as u64, libc::F_SETFL as u64, libc::F_DUPFD_CLOEXEC as u64]),
        "sockets that do not block",
    ),
    only(
        libc::SYS_ioctl,
        Only::OneOf(1, requests::DEVICES),
        "offloads of a tap, the terminal's size, block devices",
    ),
];

pub(super) const VCPU: &[Allowed] = &[
    any(libc::SYS_io_uring_enter, "a disk's reset waits for its requests"),
    only(libc::SYS_ioctl, Only::OneOf(1, requests::VCPU), "running the guest"),
    only(libc::SYS_ioctl, Only::OneOf(1, requests::ACTIVATION), "offloads of a tap whose driver starts"),
    any(libc::SYS_timer_create, "the software engine's alarm"),
    any(libc::SYS_timer_settime, "the software engine's alarm"),
    any(libc::SYS_timer_delete, "the software engine's alarm"),
    any(libc::SYS_rt_sigtimedwait, "kicks of the software engine"),
    any(libc::SYS_timerfd_settime, "rate limits that a request sets going"),
    any(libc::SYS_poll, "a halted guest of the software engine waits for an interrupt"),
    any(libc::SYS_ppoll, "the same with a time limit"),
    any(libc::SYS_clock_nanosleep, "a short wait for another vCPU"),
    any(libc::SYS_nanosleep, "the same"),
    // A guest's notification that KVM does not turn into an event is served by the vCPU that made it.
    only(
        libc::SYS_fcntl,
        Only::OneOf(1, &[libc::F_DUPFD_CLOEXEC as u64, libc::F_GETFL as u64, libc::F_SETFL as u64]),
        "devices that it activates",
    ),
    any(libc::SYS_epoll_ctl, "devices that it activates"),
    any(libc::SYS_recvfrom, "answers of a process that serves a device"),
];

pub(super) const DEBUGGER: &[Allowed] = &[
    any(libc::SYS_poll, "waiting for the debugger, for vCPUs that stop, for the guest's end"),
    any(libc::SYS_ppoll, "the same with a time limit"),
    any(libc::SYS_accept4, "debuggers"),
    any(libc::SYS_recvfrom, "what they say"),
];
