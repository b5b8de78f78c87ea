//! Snapshots of tiny guests on a real `/dev/kvm`, through the public interface only.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::tiny::{Entry, Guest, RESET, say, under_each_engine};
use vmm::{BootEvent, Engine, RunningVm, Snapshot, SnapshotError, SnapshotKind, Vm, VmExit};

under_each_engine! {
    a_guest_stands_still_while_it_is_paused,
    a_clone_goes_on_where_the_guest_was_and_so_does_the_guest,
    a_diff_holds_what_has_changed_since,
    many_clones_run_at_the_same_time,
    a_port_access_is_completed_before_a_snapshot,
}

/// Where the guests count.
const COUNTER: u64 = 0x20_0000;
/// `inc dword [COUNTER]; jmp back`.
const COUNT: [u8; 9] = [0xff, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf7];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Pauses `vm` and writes `NAME.state` and `NAME.memory`; the guest's count in the latter.
    fn take(&self, vm: &RunningVm, name: &str, kind: SnapshotKind) -> u32 {
        vm.pause().unwrap();
        let memory = self.path(&format!("{name}.memory"));
        vm.snapshot(&self.path(&format!("{name}.state")), &memory, kind).unwrap();
        count(&memory)
    }

    fn restore(&self, name: &str) -> RunningVm {
        let snapshot = Snapshot::read(&self.path(&format!("{name}.state"))).unwrap();
        let events: Arc<Mutex<Vec<BootEvent>>> = Arc::default();
        let memory = self.path(&format!("{name}.memory"));
        Vm::restore(snapshot, &memory, events).unwrap().start_paused().unwrap()
    }
}

fn count(memory: &Path) -> u32 {
    let mut bytes = [0; 4];
    File::open(memory).unwrap().read_exact_at(&mut bytes, COUNTER).unwrap();
    u32::from_le_bytes(bytes)
}

/// Runs `vm` until its count is above `before`, by taking snapshots of it; the count then.
fn runs_on(files: &Files, vm: &RunningVm, before: u32) -> u32 {
    for _ in 0..1000 {
        vm.resume();
        std::thread::sleep(Duration::from_millis(10));
        let now = files.take(vm, "probe", SnapshotKind::Full);
        if now > before {
            return now;
        }
    }
    panic!("the guest still counts {before}");
}

fn a_guest_stands_still_while_it_is_paused(engine: Engine) {
    let (files, guest) = (Files::new(), Guest::new(engine, Entry::Long, &COUNT));
    let vm = guest.start();
    let count = runs_on(&files, &vm, 0);
    std::thread::sleep(Duration::from_millis(20));
    vm.pause().unwrap();
    assert!(vm.is_paused());
    assert_eq!(files.take(&vm, "later", SnapshotKind::Full), count);
    runs_on(&files, &vm, count);
    assert_eq!(vm.stop().unwrap(), VmExit::Stopped, "a paused guest can be stopped");
}

fn a_clone_goes_on_where_the_guest_was_and_so_does_the_guest(engine: Engine) {
    let (files, guest) = (Files::new(), Guest::new(engine, Entry::Long, &COUNT));
    let vm = guest.start();
    runs_on(&files, &vm, 0);
    let then = files.take(&vm, "then", SnapshotKind::Full);
    let clone = files.restore("then");
    assert_eq!(files.take(&clone, "probe", SnapshotKind::Full), then, "it has not run yet");
    let later = runs_on(&files, &clone, then);
    runs_on(&files, &vm, then);
    assert_eq!(count(&files.path("then.memory")), then, "a clone leaves the snapshot alone");
    files.take(&clone, "second", SnapshotKind::Full);
    drop((vm, clone));
    let clone = files.restore("second");
    assert!(runs_on(&files, &clone, later) > later);
}

fn a_diff_holds_what_has_changed_since(engine: Engine) {
    let (files, guest) = (Files::new(), Guest::new(engine, Entry::Long, &COUNT));
    let vm = guest.start();
    let first = runs_on(&files, &vm, 0);
    let refused = vm.snapshot(&files.path("a"), &files.path("b"), SnapshotKind::Diff).unwrap_err();
    assert!(matches!(refused, SnapshotError::NoBase), "{refused}");
    files.take(&vm, "base", SnapshotKind::Full);
    let clone = files.restore("base");
    runs_on(&files, &clone, first);
    let changed = files.take(&clone, "diff", SnapshotKind::Diff);
    drop((vm, clone));

    let snapshot = Snapshot::read(&files.path("diff.state")).unwrap();
    let events: Arc<Mutex<Vec<BootEvent>>> = Arc::default();
    let refused = Vm::restore(snapshot, &files.path("diff.memory"), events).err().unwrap().to_string();
    assert!(refused.contains("carve vm rebase"), "{refused}");
    vmm::snapshot::rebase(&files.path("base.memory"), &files.path("diff.memory")).unwrap();
    std::fs::rename(files.path("base.memory"), files.path("diff.memory")).unwrap();
    let clone = files.restore("diff");
    assert!(runs_on(&files, &clone, changed) > changed);
}

fn many_clones_run_at_the_same_time(engine: Engine) {
    let (files, guest) = (Files::new(), Guest::new(engine, Entry::Long, &COUNT));
    let vm = guest.start();
    let then = runs_on(&files, &vm, 0);
    files.take(&vm, "then", SnapshotKind::Full);
    drop(vm);
    let clones: Vec<_> = (0..10).map(|_| files.restore("then")).collect();
    for clone in &clones {
        clone.resume();
    }
    for clone in &clones {
        runs_on(&files, clone, then);
    }
}

/// Reads a port that answers all ones, again and again, and counts the answers that are something else.
fn a_port_access_is_completed_before_a_snapshot(engine: Engine) {
    // mov dx, 0x1234; again: xor eax, eax; in al, dx; inc dword [COUNTER]; cmp al, 0xff; je again
    let mut code = vec![0x66, 0xba, 0x34, 0x12, 0x31, 0xc0, 0xec];
    code.extend(&COUNT[..7]);
    code.extend([0x3c, 0xff, 0x74, 0xf2]);
    let (files, guest) =
        (Files::new(), Guest::new(engine, Entry::Long, &[code, say(b"no"), RESET.to_vec()].concat()));
    let mut vm = guest.start();
    let mut before = runs_on(&files, &vm, 0);
    for _ in 0..10 {
        before = runs_on(&files, &vm, before);
        vm = files.restore("probe");
    }
    assert_eq!((vm.try_wait().unwrap(), guest.serial_output().as_str()), (None, ""));
}
