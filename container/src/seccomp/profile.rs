//! The default profile: what a container may call, in the shape of Docker's.
//!
//! Everything an ordinary program needs is allowed. What could reach beyond the container is allowed only together
//! with the capability that guards it, and everything else fails with EPERM. Calls newer than all of those listed
//! fail with ENOSYS (see `compile.rs`), and `clone3` always does so without CAP_SYS_ADMIN: its flags are behind a
//! pointer, where a filter cannot look, and libc then falls back to `clone`.
//!
//! io_uring is left out, as Docker does since version 25: its requests pass by every filter.

use std::collections::HashSet;

use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde_json::{Value, json};

/// Files, directories, their attributes, and mounts as far as anyone may look at them.
const FILES: &str = "access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 \
    dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link \
    linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod \
    mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read \
    readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile \
    sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range \
    syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write \
    writev arm_fadvise64_64 arm_sync_file_range";

/// Memory.
const MEMORY: &str = "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 \
    mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
    remap_file_pages cacheflush";

/// Processes, threads, their scheduling and credentials.
const PROCESSES: &str = "arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue \
    futex_time64 futex_wait futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 \
    getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 \
    getrlimit get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 ioprio_get ioprio_set \
    modify_ldt pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease rseq sched_getaffinity sched_getattr \
    sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
    setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid \
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid \
    set_thread_area set_tid_address set_tls setuid setuid32 sysinfo times ugetrlimit uname vfork wait4 waitid \
    waitpid breakpoint";

/// One process looking into another of its own container; since Linux 4.8 ptrace cannot be used to get round a
/// filter.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// Signals and waiting for events.
const EVENTS: &str = "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
    io_submit kill _newselect pause poll ppoll ppoll_time64 pselect6 pselect6_time64 restart_syscall rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo select sigaltstack signal signalfd signalfd4 sigpending sigprocmask \
    sigreturn sigsuspend tgkill tkill";

/// Clocks and timers.
const TIME: &str = "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

/// Sockets (apart from making one), pipes, queues, shared memory, randomness, and the means by which a program
/// restricts itself further.
const COMMUNICATION: &str = "accept accept4 bind connect getpeername getrandom getsockname getsockopt ipc \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self listen mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd \
    pipe pipe2 recv recvfrom recvmmsg recvmmsg_time64 recvmsg seccomp semctl semget semop semtimedop \
    semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall \
    socketpair";

/// What each capability opens.
const WITH_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The flags of clone(2) that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The personalities a program may ask for: Linux, 32-bit Linux, both without address randomisation's upper half
/// (UNAME26), and the question which one it has.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// AF_VSOCK, whose addresses no namespace holds: a container must not reach a hypervisor's agents by it.
const AF_VSOCK: u64 = 40;

/// The default profile for a process with these capabilities in its bounding set.
pub fn default_profile(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let mut syscalls: Vec<LinuxSyscall> = [FILES, MEMORY, PROCESSES, TRACING, EVENTS, TIME, COMMUNICATION]
        .into_iter()
        .map(|names| allow(names, json!([])))
        .collect();
    syscalls.push(allow("socket", json!([{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}])));
    for personality in PERSONALITIES {
        let is = json!([{"index": 0, "value": personality, "op": "SCMP_CMP_EQ"}]);
        syscalls.push(allow("personality", is));
    }
    for (capability, names) in WITH_CAPABILITY {
        if capabilities.contains(&capability) {
            syscalls.push(allow(names, json!([])));
        }
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        let no_namespaces =
            json!([{"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        syscalls.push(allow("clone", no_namespaces));
        let mut clone3 = allow("clone3", json!([]));
        clone3.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
        syscalls.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(syscalls));
    profile
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    }
}

fn allow(names: &str, args: Value) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names.split_whitespace().map(str::to_owned).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_args(serde_json::from_value(args).ok().filter(|args: &Vec<_>| !args.is_empty()));
    syscall
}

#[cfg(test)]
mod tests {
    use super::super::architecture::NATIVE;
    use super::super::bpf::interpreter::run;
    use super::super::compile::compile;
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

    fn answers(capabilities: &[Capability], calls: &[(&str, u64)]) -> Vec<u32> {
        let filter = compile(&default_profile(&capabilities.iter().copied().collect())).unwrap();
        let ask = |(name, arg): &(&str, u64)| {
            let number = NATIVE.number(name).unwrap();
            run(&filter.program, NATIVE.audit, number, [*arg, 0, 0, 0, 0, 0])
        };
        calls.iter().map(ask).collect()
    }

    #[test]
    fn an_ordinary_container_cannot_reach_out() {
        let calls = [
            ("read", 0, ALLOW),
            ("openat", 0, ALLOW),
            ("clone", libc::CLONE_VM as u64, ALLOW),
            ("clone", libc::CLONE_NEWUSER as u64, EPERM),
            ("clone3", 0, ENOSYS),
            ("unshare", 0, EPERM),
            ("mount", 0, EPERM),
            ("keyctl", 0, EPERM),
            ("bpf", 0, EPERM),
            ("io_uring_setup", 0, EPERM),
            ("kexec_load", 0, EPERM),
            ("socket", 2, ALLOW),
            ("socket", AF_VSOCK, EPERM),
            ("personality", 8, ALLOW),
            ("personality", 0x4_0000, EPERM),
            ("file_setattr", 0, ENOSYS),
        ];
        let asked: Vec<_> = calls.iter().map(|(name, arg, _)| (*name, *arg)).collect();
        for ((name, arg, expected), got) in calls.iter().zip(answers(&[], &asked)) {
            assert_eq!(got, *expected, "{name}({arg})");
        }
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let calls = [("mount", 0), ("clone", libc::CLONE_NEWUSER as u64), ("clone3", 0), ("reboot", 0)];
        assert_eq!(answers(&[Capability::SysAdmin], &calls), [ALLOW, ALLOW, ALLOW, EPERM]);
    }

    #[test]
    fn the_program_is_small() {
        let filter = compile(&default_profile(&HashSet::new())).unwrap();
        assert!(filter.program.len() < 700, "{} instructions", filter.program.len());
    }

    #[test]
    fn every_name_is_a_system_call_of_some_architecture() {
        let known: HashSet<&str> = [
            syscalls::x86_64::Sysno::iter().map(|s| s.name()).collect::<Vec<_>>(),
            syscalls::x86::Sysno::iter().map(|s| s.name()).collect(),
            syscalls::aarch64::Sysno::iter().map(|s| s.name()).collect(),
            syscalls::arm::Sysno::iter().map(|s| s.name()).collect(),
        ]
        .concat()
        .into_iter()
        .collect();
        let profile = default_profile(&HashSet::from(WITH_CAPABILITY.map(|(capability, _)| capability)));
        let elsewhere = [
            "epoll_ctl_old",
            "epoll_wait_old",
            "_newselect",
            "arm_fadvise64_64",
            "cacheflush",
            "set_tls",
            "breakpoint",
        ];
        for name in profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names) {
            assert!(known.contains(name.as_str()) || elsewhere.contains(&name.as_str()), "{name}");
        }
    }
}
