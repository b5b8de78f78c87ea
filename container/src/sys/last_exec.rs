//! The two executions that turn init into the container's program.
//!
//! Between them runs a program of some hundred bytes, in a sealed memory file of its own. So it is that file, and
//! not the runtime's binary on the host, that a container finds behind `/proc/self/exe` when its program is a
//! script or a link that leads there (CVE-2019-5736). It also loads the seccomp filter, with nothing but the
//! execution itself to come, so that a filter need not allow what set-up uses.

use std::arch::global_asm;
use std::ffi::{CStr, c_char};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::slice;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::exec::CStringArray;
use super::seccomp::BpfInstruction;

/// Where the program is mapped: any page above mmap_min_addr.
const LOAD_ADDRESS: u64 = 0x40_0000;

/// ELF header and one program header, elf(5).
const HEADERS_BYTES: usize = 64 + 56;

/// What comes after the code: see the offsets in the assembly.
const PARAMETERS_BYTES: usize = 16;

// The stack at entry is execve's: argc, argv, 0, envp, 0. argv[0] is the path to execute, the rest its arguments.
// Parameters, at the label's end: channel (u32), filter's length (u32), filter's flags (u64), the filter.
// A failure is told to the channel in 8 bytes: the stage (u32) and errno (u32).
global_asm!(
    ".pushsection .rodata.carve_last_exec, \"a\"",
    ".balign 16",
    "carve_last_exec_start:",
    "    mov r12, rsp",
    "    lea rbx, [rip + carve_last_exec_end]",
    "    xor r13d, r13d",
    // fcntl(channel, F_SETFD, FD_CLOEXEC)
    "    mov edi, [rbx]",
    "    mov esi, 2",
    "    mov edx, 1",
    "    mov eax, 72",
    "    syscall",
    "    test eax, eax",
    "    js 3f",
    // seccomp(SECCOMP_SET_MODE_FILTER, flags, &{ length, filter })
    "    mov eax, [rbx + 4]",
    "    test eax, eax",
    "    jz 2f",
    "    inc r13d",
    "    lea rcx, [rbx + 16]",
    "    push rcx",
    "    push rax",
    "    mov edi, 1",
    "    mov rsi, [rbx + 8]",
    "    mov rdx, rsp",
    "    mov eax, 317",
    "    syscall",
    "    test eax, eax",
    "    js 3f",
    // execve(argv[0], argv + 1, envp)
    "2:  mov r13d, 2",
    "    mov rax, [r12]",
    "    mov rdi, [r12 + 8]",
    "    lea rsi, [r12 + 16]",
    "    lea rdx, [r12 + 8 * rax + 16]",
    "    mov eax, 59",
    "    syscall",
    // write(channel, { stage, errno }, 8); exit_group(127)
    "3:  neg eax",
    "    shl rax, 32",
    "    or rax, r13",
    "    push rax",
    "    mov edi, [rbx]",
    "    mov rsi, rsp",
    "    mov edx, 8",
    "    mov eax, 1",
    "    syscall",
    "    mov edi, 127",
    "    mov eax, 231",
    "    syscall",
    "    ud2",
    ".balign 16",
    "carve_last_exec_end:",
    ".popsection",
);

unsafe extern "C" {
    static carve_last_exec_start: u8;
    static carve_last_exec_end: u8;
}

/// What a failure between the two executions was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastStage {
    Channel,
    Seccomp,
    Exec,
}

/// The program in between, ready to be executed.
#[derive(Debug)]
pub(crate) struct LastExec {
    file: OwnedFd,
}

impl LastExec {
    /// Prepares it: it will report a failure to `channel` and load `filter`, a program with its flags.
    ///
    /// # Errors
    /// Those of memfd_create(2): EACCES where the host forbids executable memory files (vm.memfd_noexec).
    pub(crate) fn new(
        channel: BorrowedFd<'_>,
        filter: Option<(&[BpfInstruction], u64)>,
    ) -> Result<Self, Errno> {
        let image = image(channel.as_raw_fd().cast_unsigned(), filter)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = match memfd_create("carve-exec", flags | MemfdFlags::EXEC) {
            // Before Linux 6.3 all memory files could be executed, and the flag was not known.
            Err(Errno::INVAL) => memfd_create("carve-exec", flags)?,
            result => result?,
        };
        let mut file = std::fs::File::from(file);
        file.write_all(&image).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self { file: file.into() })
    }

    /// Becomes `path` with these arguments and environment; returns only with the reason why the first of the two
    /// executions failed. `channel` must be the one that [`LastExec::new`] was given.
    pub(crate) fn run(
        &self,
        channel: BorrowedFd<'_>,
        path: &CStr,
        args: &CStringArray,
        env: &CStringArray,
    ) -> Errno {
        if let Err(errno) = fcntl_setfd(channel, FdFlags::empty()) {
            return errno;
        }
        let args: Vec<*const c_char> = [path.as_ptr()].into_iter().chain(args.pointers()).collect();
        // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; both arrays are null-terminated and
        // point at strings that live as long as the call.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.file.as_raw_fd(),
                c"".as_ptr(),
                args.as_ptr(),
                env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Reads what the program in between said before it ended.
pub(crate) fn parse_failure(message: &[u8]) -> Option<(LastStage, Errno)> {
    let message: [u8; 8] = message.try_into().ok()?;
    let stage = match u32::from_ne_bytes([message[0], message[1], message[2], message[3]]) {
        0 => LastStage::Channel,
        1 => LastStage::Seccomp,
        2 => LastStage::Exec,
        _ => return None,
    };
    let errno = i32::from_ne_bytes([message[4], message[5], message[6], message[7]]);
    // rustix takes errno values of the kernel's range only.
    (1..4096).contains(&errno).then(|| (stage, Errno::from_raw_os_error(errno)))
}

/// The whole ELF file: headers, code, parameters, filter.
pub(crate) fn image(channel: u32, filter: Option<(&[BpfInstruction], u64)>) -> Result<Vec<u8>, Errno> {
    let code = code();
    let (filter, flags) = filter.unwrap_or_default();
    let length = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let size = HEADERS_BYTES + code.len() + PARAMETERS_BYTES + size_of_val(filter);
    let mut image = Vec::with_capacity(size);
    headers(&mut image, size as u64);
    image.extend(code);
    image.extend(channel.to_ne_bytes());
    image.extend(u32::from(length).to_ne_bytes());
    image.extend(flags.to_ne_bytes());
    for instruction in filter {
        image.extend(instruction.code.to_ne_bytes());
        image.extend([instruction.jump_true, instruction.jump_false]);
        image.extend(instruction.k.to_ne_bytes());
    }
    Ok(image)
}

/// An executable of one segment that maps the whole file, elf(5).
fn headers(image: &mut Vec<u8>, size: u64) {
    let entry = LOAD_ADDRESS + HEADERS_BYTES as u64;
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend([2_u16, 62].iter().flat_map(|half| half.to_le_bytes())); // ET_EXEC, EM_X86_64
    image.extend(1_u32.to_le_bytes());
    image.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    image.extend(0_u32.to_le_bytes());
    image.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    image.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes())); // PT_LOAD, readable and executable
    let segment = [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000];
    image.extend(segment.iter().flat_map(|word| word.to_le_bytes()));
}

fn code() -> &'static [u8] {
    let start = &raw const carve_last_exec_start;
    let end = &raw const carve_last_exec_end;
    // SAFETY: both labels are in one section, the end after the start, and what is between them is constant.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_file_is_an_executable_of_one_segment() {
        let image =
            image(3, Some((&[BpfInstruction { code: 6, jump_true: 0, jump_false: 0, k: 1 }], 2))).unwrap();
        assert_eq!(image.len(), HEADERS_BYTES + code().len() + PARAMETERS_BYTES + 8);
        assert_eq!(&image[..4], b"\x7fELF");
        let size = u64::from_le_bytes(image[96..104].try_into().unwrap());
        assert_eq!(size, image.len() as u64);
    }

    #[test]
    fn failures_are_read_back_and_nonsense_is_not() {
        let message = |stage: u32, errno: u32| [stage.to_ne_bytes(), errno.to_ne_bytes()].concat();
        assert_eq!(parse_failure(&message(2, 2)), Some((LastStage::Exec, Errno::NOENT)));
        assert_eq!(parse_failure(&message(1, 22)), Some((LastStage::Seccomp, Errno::INVAL)));
        for nonsense in [message(3, 1), message(0, 0), message(2, 5000), b"\"Ready\"".to_vec(), Vec::new()] {
            assert_eq!(parse_failure(&nonsense), None);
        }
    }

    /// Runs it as a shell would run any program: its own file, by the descriptor's path.
    fn run(path: &str, args: &[&str]) -> (std::process::Output, Vec<u8>) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // The child inherits descriptor numbers, so the channel is standard error.
        let last = LastExec::new(rustix::stdio::stderr(), None).unwrap();
        let program = format!("/proc/self/fd/{}", last.file.as_raw_fd());
        fcntl_setfd(&last.file, FdFlags::empty()).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::piped()).stderr(writer.try_clone().unwrap());
        let output = {
            use std::os::unix::process::CommandExt;
            command.arg0(path);
            let output = command.output().unwrap();
            drop((command, writer));
            output
        };
        let mut told = Vec::new();
        reader.read_to_end(&mut told).unwrap();
        let _ = last.file.as_fd();
        (output, told)
    }

    #[test]
    fn it_becomes_its_first_argument() {
        let (output, told) = run("/bin/echo", &["echo", "one", "two"]);
        assert_eq!(output.stdout, b"one two\n");
        assert!(told.is_empty());
    }

    #[test]
    fn it_says_why_it_could_not() {
        let (output, told) = run("/nowhere", &["nowhere"]);
        assert_eq!(output.status.code(), Some(127), "{:?}", output.status.signal());
        assert_eq!(parse_failure(&told), Some((LastStage::Exec, Errno::NOENT)));
    }
}
