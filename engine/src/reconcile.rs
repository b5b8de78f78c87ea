//! Cleaning up after monitors that died, so that the next command sees the truth.
//!
//! A monitor holds its instance's lock as long as it lives, and the kernel frees the lock when it dies, however it
//! dies. What dies with it by construction: a container's init (parent death signal) with its process tree, mounts
//! (a mount namespace of its own), veth and tap. What is left to remove here: the cgroup, the published ports, the
//! bridge when nobody uses it, and files.

use std::{fs, path::Path};

use container::cgroup::{Cgroup, Hierarchy};

use crate::{
    engine::Engine,
    error::{EngineError, Result},
    files::{self, Lock},
    instance::{Instance, State},
    network,
};

/// The exit code recorded for an instance whose monitor died: its app was killed with it.
const KILLED: i32 = 137;

pub(crate) fn reconcile(engine: &Engine) -> Result<()> {
    let instances = engine.database.list()?;
    let ended = |i: &&Instance| i.state != State::Exited || i.spec.auto_remove;
    let candidates: Vec<_> = instances.iter().filter(ended).collect();
    let unrecorded = unrecorded(engine, &instances)?;
    if candidates.is_empty() && unrecorded.is_empty() {
        return Ok(());
    }
    let _recording = Lock::acquire(&engine.root.instances_lock())?;
    for instance in candidates {
        reconcile_one(engine, instance)?;
    }
    for id in unrecorded {
        remove_unrecorded(engine, &id)?;
    }
    Ok(())
}

fn reconcile_one(engine: &Engine, instance: &Instance) -> Result<()> {
    if !instance.dir().exists() {
        release(instance)?;
        return engine.database.delete(&instance.id);
    }
    let Some(_lock) = Lock::try_acquire(&Instance::lock(instance.dir()))? else { return Ok(()) };
    // It may have ended in good order since it was listed.
    let Ok(instance) = engine.database.find(&instance.id) else { return Ok(()) };
    if instance.state != State::Exited {
        tracing::warn!(instance = instance.name, "the monitor died; cleaning up after it");
        release(&instance)?;
        engine.database.set_exited(&instance.id, KILLED, Some("the monitor died"))?;
        network::release(engine)?;
    }
    if instance.spec.auto_remove {
        engine.destroy(&instance.id)?;
    }
    Ok(())
}

/// Removes an instance's cgroup, and kills what still runs in it.
fn release(instance: &Instance) -> Result<()> {
    Hierarchy::detect(Path::new("/"))
        .and_then(|hierarchy| Cgroup::open(&hierarchy, Path::new(&instance.cgroup()))?.remove())
        .map_err(|e| EngineError::Invalid(format!("cannot remove the cgroup of {}: {e}", instance.name)))
}

/// Directories that have no record: the command that made them died before it wrote one.
fn unrecorded(engine: &Engine, instances: &[Instance]) -> Result<Vec<String>> {
    let dir = engine.root.instances();
    let entries = fs::read_dir(&dir).map_err(EngineError::file("read", &dir))?;
    Ok(entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|id| !instances.iter().any(|i| i.id == *id))
        .collect())
}

fn remove_unrecorded(engine: &Engine, id: &str) -> Result<()> {
    // Recorded since, or being removed by its own monitor: not ours.
    let dir = Instance::dir_in(&engine.root, id);
    if !dir.exists() || engine.database.find(id).is_ok() {
        return Ok(());
    }
    match Lock::try_acquire(&Instance::lock(&dir))? {
        Some(_lock) => files::remove_dir(&dir),
        None => Ok(()),
    }
}
