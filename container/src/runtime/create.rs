//! `create` and `run`: a container that has a name from its beginning.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::delete;
use super::error::RuntimeError;
use super::foreground::Foreground;
use super::inherited::Inherited;
use super::pid_file;
use super::record::{Process, Record};
use super::relay;
use super::store::{Entry, Locked, Store};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Hierarchy};
use crate::console::Console;
use crate::container::Container;
use crate::create::{self, CreateOptions};
use crate::plan;
use crate::sys;

/// Below this, in each cgroup tree, are the containers whose configuration does not say where, unless the user has a part of
/// the v2 tree.
const CGROUP_PARENT: &str = "/carve-oci";

/// What a container is created from.
#[derive(Debug)]
pub struct Create {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Standard input, output and error of its program.
    pub stdio: [OwnedFd; 3],
    /// A file to write the id of its first process to.
    pub pid_file: Option<PathBuf>,
    /// A socket to send the program's terminal to; without one, a program in the foreground has its terminal joined to
    /// this process's own.
    pub console_socket: Option<PathBuf>,
    /// Descriptors of this process that the program gets.
    pub inherited: Inherited,
    /// Whether it gets a session keyring of its own.
    pub new_keyring: bool,
    /// Whether its root is exchanged by pivot_root(2); see [`CreateOptions::pivot`].
    pub pivot: bool,
}

/// A container that was created.
#[derive(Debug)]
pub struct Created {
    /// The id of its first process.
    pub pid: i32,
    /// What could not be had as asked for, one sentence each.
    pub warnings: Vec<String>,
}

/// Creates it, and lets go of it.
pub(super) fn create(store: &Store, id: &str, options: Create) -> Result<Created, RuntimeError> {
    let (bundle, mut record, console) = prepare(store, id, &options, false)?;
    let console = console.map(|console| console.theirs);
    let entry = store.make(id)?;
    let locked = entry.lock()?;
    match make(&entry, &locked, &bundle, &mut record, options, console, true) {
        Ok(container) => {
            let created = Created { pid: container.pid(), warnings: container.warnings().to_vec() };
            container.detach()?;
            Ok(created)
        }
        Err(error) => {
            undo(locked, &record);
            Err(error)
        }
    }
}

/// Creates it, starts it and waits for its end.
pub(super) fn run(
    store: &Store,
    id: &str,
    options: Create,
    started: impl FnOnce(i32),
) -> Result<i32, RuntimeError> {
    let (bundle, mut record, console) = prepare(store, id, &options, true)?;
    let (theirs, ours) = console.map_or((None, None), |console| (Some(console.theirs), console.ours));
    // From now on a signal is for the program, and none leaves a container half made.
    let foreground = Foreground::take()?;
    let entry = store.make(id)?;
    let locked = entry.lock()?;
    let ended =
        make(&entry, &locked, &bundle, &mut record, options, theirs, false).and_then(|mut container| {
            container.start()?;
            // Others may work on it from now on.
            drop(locked);
            started(container.pid());
            record.run_poststart_hooks();
            foreground.stay_until_end_of(container.pidfd(), ours)?;
            Ok(container.wait().map_err(|error| RuntimeError::file("its first process", error))?.code())
        });
    match entry.lock() {
        Ok(locked) => delete::remove(locked, &record)?,
        // Somebody else deleted it.
        Err(RuntimeError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    ended
}

/// Reads what is to be made, and finds out whether it can be.
fn prepare(
    store: &Store,
    id: &str,
    options: &Create,
    foreground: bool,
) -> Result<(Bundle, Record, Option<Console>), RuntimeError> {
    // How the command line was parsed is past.
    sys::give_back_code();
    let mut bundle = Bundle::load(&options.bundle)?;
    // So is how the configuration was parsed, which is most of this process's code.
    sys::give_back_code();
    if let Some(process) = bundle.spec.process_mut() {
        options.inherited.announce(process);
        if foreground && options.console_socket.is_none() {
            relay::lend_size(process);
        }
    }
    let record = new_record(store, &bundle, id)?;
    let console = console(&bundle, options, foreground)?;
    Ok((bundle, record, console))
}

fn make(
    entry: &Entry,
    locked: &Locked<'_>,
    bundle: &Bundle,
    record: &mut Record,
    options: Create,
    console: Option<OwnedFd>,
    detached: bool,
) -> Result<Container, RuntimeError> {
    // Before anything is made: whoever finds this knows what may be there.
    locked.write_record(record)?;
    locked.write_config(&bundle.json)?;
    let start_socket = detached.then(|| listen_at(&entry.start_socket())).transpose()?;
    let options_of_init = CreateOptions {
        stdio: options.stdio,
        cgroup_path: record.cgroup.clone(),
        hierarchy: Some(entry.trees().get()?.clone()),
        start_socket,
        die_with_parent: false,
        console,
        inherited: options.inherited.count(),
        new_keyring: options.new_keyring,
        pivot: options.pivot,
    };
    let mut container = create::create(bundle, &record.id, options_of_init)?;
    let known = Process::read(container.pid()).and_then(|init| {
        record.init = Some(init);
        record.cgroup_made_parents = container.cgroup().made_parents();
        locked.write_record(record)?;
        options.pid_file.as_deref().map_or(Ok(()), |path| pid_file::write(path, init.pid))
    });
    match known {
        Ok(()) => Ok(container),
        Err(error) => {
            if let Err(left) = container.delete() {
                tracing::warn!("{left}");
            }
            Err(error)
        }
    }
}

/// Where the program's terminal goes, if it is to have one.
fn console(bundle: &Bundle, options: &Create, foreground: bool) -> Result<Option<Console>, RuntimeError> {
    let wanted = bundle.spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true));
    Ok(Console::choose(wanted, options.console_socket.as_deref(), foreground)?)
}

/// What is known of it before it is made. A cgroup that others use is refused here: what is recorded is removed when
/// something goes wrong, with all its processes.
fn new_record(store: &Store, bundle: &Bundle, id: &str) -> Result<Record, RuntimeError> {
    if store.open(id).is_ok() {
        return Err(RuntimeError::Exists { id: id.to_owned() });
    }
    let hierarchy = store.trees().get()?;
    let cgroup = cgroup_path(bundle, hierarchy, id)?;
    Cgroup::refuse_used(hierarchy, &cgroup)?;
    // What it will be, for whoever has to clean up if this process is killed.
    let cgroup_made_parents = Cgroup::missing_parents(hierarchy, &cgroup)?;
    let spec = &bundle.spec;
    let hooks = plan::hooks(spec)?;
    let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
    let rootfs = spec.root().as_ref().map(|root| bundle.dir.join(root.path()));
    Ok(Record {
        oci_version: spec.version().clone(),
        id: id.to_owned(),
        bundle: bundle.dir.clone(),
        rootfs: rootfs.unwrap_or_default(),
        created: jiff::Timestamp::now().to_string(),
        owner: rustix::process::getuid().as_raw(),
        cgroup,
        cgroup_made_parents,
        annotations: spec.annotations().clone().unwrap_or_default(),
        program: args.and_then(|args| args.first()).cloned().unwrap_or_default(),
        poststart: hooks.poststart,
        poststop: hooks.poststop,
        poststop_begun: false,
        init: None,
    })
}

/// What the configuration says; a relative path is below our own parent, as one that it does not give, or below what is
/// delegated to the user.
fn cgroup_path(bundle: &Bundle, hierarchy: &Hierarchy, id: &str) -> Result<PathBuf, RuntimeError> {
    plan::checked_id(id)?;
    let configured = bundle.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = configured.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| id.into());
    let text = path.to_string_lossy();
    if path.is_relative() && text.matches(':').count() == 2 && !text.contains('/') {
        let reason = "is systemd's form, slice:prefix:name, and carve makes cgroups itself; give a path (podman: \
                      cgroup_manager = \"cgroupfs\", containerd: SystemdCgroup = false)";
        return Err(plan::invalid("linux.cgroupsPath", text, reason).into());
    }
    if path.is_absolute() {
        return Ok(path);
    }
    Ok(Cgroup::delegated(hierarchy).unwrap_or_else(|| CGROUP_PARENT.into()).join(path))
}

/// Removes what a creation that failed has left; that it could not all be is for `delete --force` to mend.
fn undo(locked: Locked<'_>, record: &Record) {
    if let Err(error) = delete::remove(locked, record) {
        tracing::warn!("{error}");
    }
}

fn listen_at(path: &Path) -> Result<OwnedFd, RuntimeError> {
    let listening = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &address)?;
        listen(&socket, 16)?;
        Ok(socket)
    });
    listening.map_err(|errno| RuntimeError::file(path, errno))
}
