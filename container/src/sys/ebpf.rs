//! `bpf(2)`, as far as attaching device rules to a cgroup needs it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::check;

/// One instruction of eBPF: `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EbpfInstruction {
    pub(crate) code: u8,
    /// Destination in the low half, source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// The most programs that a cgroup can have (kernel/bpf/cgroup.c).
const MAX_PROGRAMS: u32 = 64;

/// The part of `union bpf_attr` that BPF_PROG_LOAD needs; the kernel takes what is left out as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` that BPF_PROG_ATTACH and BPF_PROG_DETACH need.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replaced_fd: u32,
}

/// The part of it that BPF_PROG_QUERY needs.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

/// Loads a device program and attaches it to the cgroup v2 directory `cgroup`, in place of those that are attached there.
/// There is no moment without any. It lives as long as the group.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN, EINVAL when the kernel lacks the program type.
pub(crate) fn replace_device_program(
    cgroup: BorrowedFd<'_>,
    program: &[EbpfInstruction],
) -> Result<(), Errno> {
    let old = attached(cgroup)?;
    let program = load(program)?;
    if let [only] = old.as_slice() {
        match attach(cgroup, program.as_fd(), Some(only.as_fd())) {
            // Linux 5.5 and older cannot replace.
            Err(Errno::INVAL) => {}
            result => return result,
        }
    }
    // Both hold until the old ones are gone: what either forbids is forbidden.
    attach(cgroup, program.as_fd(), None)?;
    old.iter().try_for_each(|old| detach(cgroup, old.as_fd()))
}

fn load(program: &[EbpfInstruction]) -> Result<OwnedFd, Errno> {
    let load = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
    };
    // SAFETY: `load` is a prefix of bpf_attr of the size given; the instructions it points at and the static
    // license string outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<LoadAttr>()) };
    own(fd)
}

/// The device programs that are attached to the group itself.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_PROGRAMS as usize];
    let mut query = QueryAttr {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().addr() as u64,
        count: MAX_PROGRAMS,
    };
    // SAFETY: `query` is a prefix of bpf_attr of the size given, which the kernel writes back within that size; `ids`
    // has room for `count` numbers and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<QueryAttr>()) };
    check(result)?;
    ids.iter().take(query.count as usize).map(|id| by_id(*id)).collect()
}

fn by_id(id: u32) -> Result<OwnedFd, Errno> {
    // The first number of `union bpf_attr` is the id.
    // SAFETY: `id` is a prefix of bpf_attr of the size given, a plain number.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, &raw const id, size_of::<u32>()) };
    own(fd)
}

fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let replace = if replaced.is_some() { BPF_F_REPLACE } else { 0 };
    let attach = AttachAttr {
        attach_flags: BPF_F_ALLOW_MULTI | replace,
        replaced_fd: replaced.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()),
        ..AttachAttr::of(cgroup, program)
    };
    // SAFETY: `attach` is a prefix of bpf_attr of the size given and holds plain numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<AttachAttr>()) };
    check(result).map(|_| ())
}

fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let detach = AttachAttr::of(cgroup, program);
    // SAFETY: `detach` is a prefix of bpf_attr of the size given and holds plain numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, &raw const detach, size_of::<AttachAttr>()) };
    check(result).map(|_| ())
}

impl AttachAttr {
    fn of(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Self {
        Self {
            target_fd: cgroup.as_raw_fd().cast_unsigned(),
            program_fd: program.as_raw_fd().cast_unsigned(),
            attach_type: BPF_CGROUP_DEVICE,
            attach_flags: 0,
            replaced_fd: 0,
        }
    }
}

/// The descriptor that the kernel has just returned.
fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(check(fd)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
