//! A Unix socket that is made for a machine and goes with it.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The socket, which goes when this does.
pub(super) struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// Listens at `path`, which `flag` has named. What a process that is gone has left there is replaced.
    ///
    /// # Errors
    /// There is something else, or it cannot be made.
    pub(super) fn bind(path: &Path, flag: &str) -> anyhow::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            result => result,
        };
        let listener = listener
            .with_context(|| format!("cannot make the socket {}; give another {flag}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// What the VMM listens to.
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

fn is_left_over(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Whoever has removed it already has done no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_one_that_is_served_stays() {
        let dir = std::env::temp_dir().join(format!("carve-serve-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("api");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Listening::bind(&path, "--api-sock").unwrap();
        let error = Listening::bind(&path, "--api-sock").err().unwrap().to_string();
        assert!(error.contains("give another --api-sock"), "{error}");
        drop(socket);
        assert!(!path.exists());
        std::fs::remove_dir(dir).unwrap();
    }
}
