//! The process that an image and a user together ask for, by Docker's rules, the same for both models.

use agent::protocol::Process;
use oci_spec::image::ImageConfiguration;

use crate::{
    error::{EngineError, Result},
    instance::Instance,
};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Command, environment, directory and user of an instance's app.
pub(crate) fn process(instance: &Instance, image: &ImageConfiguration) -> Result<Process> {
    let spec = &instance.spec;
    let config = image.config().clone().unwrap_or_default();
    // A user's entrypoint also does away with the image's command, which was meant for the image's entrypoint.
    let mut args = match &spec.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint().clone().unwrap_or_default(),
    };
    if !spec.command.is_empty() {
        args.extend_from_slice(&spec.command);
    } else if spec.entrypoint.is_none() {
        args.extend(config.cmd().clone().unwrap_or_default());
    }
    if args.is_empty() {
        return Err(EngineError::Invalid(format!(
            "the image {} names no command; write one behind it, as in `carve run {} sh`",
            spec.image, spec.image
        )));
    }
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", instance.name)];
    for entry in config.env().iter().flatten().chain(&spec.env) {
        set(&mut env, entry);
    }
    Ok(Process {
        args,
        env,
        cwd: spec
            .workdir
            .clone()
            .or_else(|| config.working_dir().clone())
            .filter(|d| !d.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        user: spec.user.clone().or_else(|| config.user().clone()).unwrap_or_default(),
    })
}

/// Adds `NAME=value`, in place of an earlier value; a bare `NAME` takes the value it has in this process, as in
/// Docker, and is left out when it has none.
fn set(env: &mut Vec<String>, entry: &str) {
    let entry = match entry.split_once('=') {
        Some(_) => entry.to_owned(),
        None => match std::env::var(entry) {
            Ok(value) => format!("{entry}={value}"),
            Err(_) => return,
        },
    };
    let name = entry.split_inclusive('=').next().unwrap_or_default();
    match env.iter_mut().find(|e| e.starts_with(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Contents of `/etc/resolv.conf`: the host's, without name servers that only the host can reach.
pub(crate) fn resolv_conf() -> String {
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let local = |l: &&str| {
        let mut words = l.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().is_some_and(|a| a.starts_with("127.") || a == "::1")
    };
    host.lines().filter(|l| !local(l)).map(|l| format!("{l}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};

    use super::*;
    use crate::{database::tests::spec, root::Root, spec::RunSpec};

    fn run(change: impl FnOnce(&mut RunSpec)) -> Result<Process> {
        let config = ConfigBuilder::default()
            .entrypoint(vec!["/entry".to_owned()])
            .cmd(vec!["a".to_owned(), "b".to_owned()])
            .env(vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()])
            .user("www")
            .build()
            .unwrap();
        run_on(ImageConfigurationBuilder::default().config(config), change)
    }

    fn run_on(image: ImageConfigurationBuilder, change: impl FnOnce(&mut RunSpec)) -> Result<Process> {
        let rootfs = oci_spec::image::RootFsBuilder::default().diff_ids(Vec::new()).build().unwrap();
        let image = image.architecture("amd64").os("linux").rootfs(rootfs).build().unwrap();
        let mut spec = RunSpec { name: Some("web".into()), ..spec() };
        change(&mut spec);
        let instance = Instance::new(&Root::new(Path::new("/")), "aa".into(), String::new(), spec);
        process(&instance, &image)
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let args = |change: fn(&mut RunSpec)| run(change).unwrap().args;
        assert_eq!(args(|_| {}), ["/entry", "a", "b"]);
        assert_eq!(args(|s| s.command = vec!["c".into()]), ["/entry", "c"]);
        assert_eq!(args(|s| s.entrypoint = Some("/sh".into())), ["/sh"]);
        assert_eq!(
            args(|s| {
                s.entrypoint = Some("/sh".into());
                s.command = vec!["-c".into()];
            }),
            ["/sh", "-c"]
        );
    }

    #[test]
    fn later_values_replace_earlier_ones() {
        let process =
            run(|s| s.env = vec!["LANG=de".into(), "X=".into(), "NOT_SET_ANYWHERE".into()]).unwrap();
        assert_eq!(process.env, ["PATH=/bin", "HOSTNAME=web", "LANG=de", "X="]);
        assert_eq!((process.cwd.as_str(), process.user.as_str()), ("/", "www"));
    }

    #[test]
    fn an_image_without_a_command_says_what_to_write() {
        let error = run_on(ImageConfigurationBuilder::default(), |_| {}).unwrap_err().to_string();
        assert!(error.contains("carve run demo sh"), "{error}");
    }
}
