//! The bundle of an instance: its `config.json`, and the files of `/etc` that differ between instances.

use std::{
    fs,
    path::{Path, PathBuf},
};

use container::spec::default_spec;
use image::Image;
use oci_spec::runtime::{LinuxMemory, Mount, Process, Spec, User};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{
    error::{EngineError, Result},
    files, image_process,
    instance::Instance,
    model::limits::cpu_quota,
    network::Place,
};

/// The least memory a container can be limited to, in bytes.
const LEAST_MEMORY: u64 = 512 << 10;

/// Writes the bundle of an instance whose root file system is mounted, and says where it is.
pub(super) fn write(
    instance: &Instance,
    image: &Image,
    rootfs: &Path,
    place: Option<&Place>,
) -> Result<PathBuf> {
    let bundle = instance.dir().join("bundle");
    let mut spec = default_spec();
    let process = process(instance, image, rootfs, spec.process().clone().unwrap_or_default())?;
    spec.set_process(Some(process));
    spec.set_hostname(Some(instance.name.clone()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.extend(etc(instance, &bundle, place)?);
    spec.set_mounts(Some(mounts));
    limit(&mut spec, instance)?;
    let json = serde_json::to_vec(&spec).expect("a runtime spec has string keys only");
    files::write(&bundle.join("config.json"), &json)?;
    Ok(bundle)
}

fn process(instance: &Instance, image: &Image, rootfs: &Path, mut process: Process) -> Result<Process> {
    let wanted = image_process::process(instance, &image.config)?;
    let user = agent::user::resolve(
        &wanted.user,
        &read_inside(rootfs, "etc/passwd"),
        &read_inside(rootfs, "etc/group"),
    )
    .map_err(|e| EngineError::Invalid(e.to_string()))?;
    let mut ids = User::default();
    ids.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.additional_gids));
    let mut env = wanted.env;
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    process.set_args(Some(wanted.args)).set_env(Some(env)).set_cwd(wanted.cwd.into()).set_user(ids);
    Ok(process)
}

/// A file of the image, as text; empty when there is none. No symbolic link leads out of the image.
fn read_inside(rootfs: &Path, path: &str) -> String {
    const MOST: u64 = 4 << 20;
    let open = || -> std::io::Result<String> {
        let root = fs::File::open(rootfs)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::from(file), MOST), &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    open().unwrap_or_default()
}

/// `/etc/hostname`, `hosts` and `resolv.conf`, kept with the instance and mounted over the image's.
fn etc(instance: &Instance, bundle: &Path, place: Option<&Place>) -> Result<Vec<Mount>> {
    let name = &instance.name;
    let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    hosts.push_str(&match place {
        Some(place) => format!("{} {name}\n", place.address),
        None => format!("127.0.0.1 {name}\n"),
    });
    let texts =
        [("hostname", format!("{name}\n")), ("hosts", hosts), ("resolv.conf", image_process::resolv_conf())];
    let mount = |(file, text): (&str, String)| {
        let path = bundle.join(file);
        files::write(&path, text.as_bytes())?;
        let mut mount = Mount::default();
        mount
            .set_destination(Path::new("/etc").join(file))
            .set_typ(Some("bind".to_owned()))
            .set_source(Some(path))
            .set_options(Some(vec!["bind".to_owned(), "rprivate".to_owned()]));
        Ok(mount)
    };
    texts.into_iter().map(mount).collect()
}

fn limit(spec: &mut Spec, instance: &Instance) -> Result<()> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    if let Some(bytes) = instance.spec.memory {
        if bytes < LEAST_MEMORY {
            return Err(EngineError::Invalid(format!(
                "{bytes} bytes of memory are too few; give at least 512k"
            )));
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut memory = LinuxMemory::default();
        // No swap beyond it: the limit is what the app can have.
        memory.set_limit(Some(bytes)).set_swap(Some(bytes));
        resources.set_memory(Some(memory));
    }
    resources.set_cpu(cpu_quota(&instance.spec));
    linux.set_resources(Some(resources)).set_cgroups_path(Some(instance.cgroup().into()));
    spec.set_linux(Some(linux));
    Ok(())
}
