//! `carve inspect NAME`: everything about an instance, as JSON.

use std::{os::unix::fs::MetadataExt, path::Path};

use container::cgroup::{Hierarchy, HierarchyKind};
use engine::{Engine, Instance};
use serde_json::{Map, Value, json};

use crate::{exit::Exit, image};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  carve inspect web")]
pub(crate) struct Args {
    /// Name or id
    instance: String,
}

pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<Exit> {
    let engine = Engine::open(root)?;
    let instance = engine.find(&args.instance)?;
    println!("{:#}", describe(&engine, &instance)?);
    Ok(Exit::Success)
}

fn describe(engine: &Engine, instance: &Instance) -> anyhow::Result<Value> {
    let spec = &instance.spec;
    let allocated = |path: &Path| -> std::io::Result<u64> { Ok(std::fs::metadata(path)?.blocks() * 512) };
    let writable = instance.writable();
    Ok(json!({
        "id": instance.id,
        "name": instance.name,
        "model": spec.model.as_str(),
        "state": instance.state.as_str(),
        "created": instance.created,
        "exit_code": instance.exit_code,
        "error": instance.error,
        "pids": { "monitor": instance.monitor_pid, "init": instance.init_pid },
        "cgroup": cgroup(instance)?,
        "ip": instance.address,
        "ports": spec.ports,
        "image": image_of(engine, instance)?,
        "writable": {
            "path": writable,
            "allocated_bytes": if writable.is_dir() { tree_bytes(&writable).ok() } else { allocated(&writable).ok() },
        },
        "guest": spec.guest,
    }))
}

fn image_of(engine: &Engine, instance: &Instance) -> anyhow::Result<Value> {
    // The image may have been removed since.
    let layers = instance.image(&engine.images()?).map_or_else(|_| Vec::new(), |image| image::layers(&image));
    Ok(json!({ "reference": instance.spec.image, "digest": instance.digest, "layers": layers }))
}

/// The directories of the instance's cgroup, by controller; under `unified` for version 2.
fn cgroup(instance: &Instance) -> anyhow::Result<Value> {
    let hierarchy = Hierarchy::detect(Path::new("/"))?;
    let below = |tree: &Path| tree.join(instance.cgroup().trim_start_matches('/'));
    let mut dirs = Map::new();
    for tree in &hierarchy.v1 {
        for controller in &tree.controllers {
            dirs.insert(controller.clone(), json!(below(&tree.dir)));
        }
    }
    if let Some(tree) = &hierarchy.v2 {
        dirs.insert("unified".to_owned(), json!(below(&tree.dir)));
    }
    // The version that has the controllers: on a hybrid host the first.
    dirs.insert("version".to_owned(), json!(if hierarchy.kind() == HierarchyKind::V2 { 2 } else { 1 }));
    Ok(Value::Object(dirs))
}

/// Bytes that the files below a directory take on disk.
fn tree_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += tree_bytes(&entry.path())?;
        }
    }
    Ok(bytes)
}
