//! The paths in a configuration, which mean the same in the VMM's process as in its parent's once they are absolute.

use std::io;
use std::path::PathBuf;

use crate::config::{
    ConsoleConfig, DiskConfig, FsConfig, PmemConfig, SerialConfig, VhostUserBlockConfig, VmConfig,
    VsockConfig,
};

/// Makes every path in `config` absolute.
///
/// # Errors
/// A path is empty, or the current directory is gone.
pub(super) fn make_absolute(config: &mut VmConfig) -> io::Result<()> {
    for path in paths(config) {
        *path = std::path::absolute(&*path)?;
    }
    Ok(())
}

/// Makes the directory of the machine's socket the current one and names the socket by its file name alone. That name
/// fits into a socket address however long the path is, and still holds in a jail, where that directory is elsewhere.
///
/// # Errors
/// There is no such directory.
pub(super) fn enter_socket_directory(config: &mut VmConfig) -> io::Result<()> {
    let Some(vsock) = &mut config.vsock else { return Ok(()) };
    if let (Some(directory), Some(name)) = (vsock.uds_path.parent(), vsock.uds_path.file_name()) {
        let failed = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("no directory for the socket {}: {error}", vsock.uds_path.display()),
            )
        };
        std::env::set_current_dir(directory).map_err(failed)?;
        vsock.uds_path = name.into();
    }
    Ok(())
}

/// Where the VMM of `config` listens.
pub(super) fn sockets(config: &VmConfig) -> Vec<PathBuf> {
    let console = match &config.console {
        Some(ConsoleConfig::Socket(path)) => Some(path.clone()),
        _ => None,
    };
    config.vsock.iter().map(|vsock| vsock.uds_path.clone()).chain(console).collect()
}

/// Every path there is: a new field must say here whether it has one.
fn paths(config: &mut VmConfig) -> Vec<&mut PathBuf> {
    let VmConfig {
        kernel,
        own_kernel: _,
        initrd,
        cmdline: _,
        memory_backing: _,
        track_dirty_pages: _,
        acpi: _,
        engine: _,
        symbols,
        profile: _,
        stop_at_mark: _,
        memory_mib: _,
        vcpus: _,
        cpu_affinity: _,
        disks,
        pmems,
        vhost_user_disks,
        fs,
        nets: _,
        vsock,
        balloon: _,
        rng: _,
        serial,
        console,
    } = config;
    let disks = disks.iter_mut().map(|DiskConfig { path, .. }| path);
    let served = vhost_user_disks.iter_mut().map(|VhostUserBlockConfig { socket, .. }| socket);
    let served = served.chain(fs.iter_mut().map(|FsConfig { socket, .. }| socket));
    let pmems = pmems.iter_mut().map(|PmemConfig { path, .. }| path);
    let vsock = vsock.iter_mut().map(|VsockConfig { uds_path, .. }| uds_path);
    let serial = match serial {
        SerialConfig::File(path) => Some(path),
        SerialConfig::None | SerialConfig::Stdio | SerialConfig::Stderr => None,
    };
    let console = match console {
        Some(ConsoleConfig::File(path) | ConsoleConfig::Socket(path)) => Some(path),
        Some(ConsoleConfig::Stdio) | None => None,
    };
    let consoles = serial.into_iter().chain(console);
    [kernel]
        .into_iter()
        .chain(initrd)
        .chain(symbols)
        .chain(disks)
        .chain(pmems)
        .chain(served)
        .chain(vsock)
        .chain(consoles)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_becomes_absolute() {
        let mut config = VmConfig::new("vmlinux", 64);
        config.initrd = Some("/boot/initrd".into());
        config.disks = vec![DiskConfig::new("disk.img")];
        config.serial = SerialConfig::File("console".into());
        config.vsock = Some(VsockConfig::new(3, "v.sock"));
        make_absolute(&mut config).unwrap();
        assert_eq!(config.initrd.as_deref(), Some("/boot/initrd".as_ref()));
        let here = std::env::current_dir().unwrap();
        for path in paths(&mut config).into_iter().filter(|path| !path.starts_with("/boot")) {
            assert!(path.starts_with(&here), "{}", path.display());
        }
    }

    #[test]
    fn an_empty_path_is_an_error() {
        assert!(make_absolute(&mut VmConfig::new("", 64)).is_err());
    }
}
