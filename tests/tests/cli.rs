//! The command line itself: help, completion, doctor, images.

use tests::Host;

#[test]
fn every_verb_has_help_with_examples() {
    let Some(host) = Host::for_containers() else { return };
    for verb in [
        "run",
        "ps",
        "stop",
        "rm",
        "inspect",
        "stats",
        "doctor",
        "completion",
        "bench run",
        "vm boot",
        "image import",
    ] {
        let args: Vec<_> = verb.split(' ').chain(["--help"]).collect();
        assert!(host.ok(&args).contains("Example"), "{verb}");
    }
}

#[test]
fn completes_in_the_usual_shells() {
    let Some(host) = Host::for_containers() else { return };
    for shell in ["bash", "zsh", "fish"] {
        assert!(host.ok(&["completion", shell]).contains("carve"), "{shell}");
    }
}

#[test]
fn doctor_says_what_there_is_for_people_and_for_programs() {
    let Some(host) = Host::for_containers() else { return };
    let report = host.run(&["doctor"]);
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(text.contains("cgroups") && text.contains("/dev/kvm"), "{text}");
    let report: serde_json::Value =
        serde_json::from_slice(&host.run(&["doctor", "--format", "json"]).stdout).unwrap();
    assert_eq!(report["container"], true);
    assert!(report["findings"].as_array().is_some_and(|f| f.len() > 10));
}

#[test]
fn without_dev_kvm_or_root_the_error_says_what_to_do() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let hidden =
        std::process::Command::new("mount").args(["--bind", "/dev/null", "/dev/kvm"]).status().unwrap();
    if hidden.success() && tests::kernel().is_some() {
        let error = host.fails(125, &["run", "--vm", "busybox", "true"]);
        assert!(error.contains("/dev/kvm"), "{error}");
    }
    let unmounted = std::process::Command::new("umount").arg("/dev/kvm").status().unwrap();
    assert!(unmounted.success());

    let nobody = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(tests::binary())
        .arg("--root")
        .arg(host.root())
        .args(["run", "busybox", "true"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(125));
    assert!(!nobody.stderr.is_empty());
}

#[test]
fn images_can_be_listed_and_removed() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    assert!(host.ok(&["image", "ls"]).contains("busybox"));
    let listed = host.json(&["image", "ls", "--format", "json"]);
    assert!(listed[0]["digest"].as_str().unwrap().starts_with("sha256:"));
    let dir = host.path("tree");
    let _ = host.ok(&["image", "unpack", "busybox", dir.to_str().unwrap()]);
    assert!(dir.join("bin/busybox").is_file());
    let _ = host.ok(&["image", "rm", "busybox"]);
    assert!(host.fails(125, &["image", "rm", "busybox"]).contains("busybox"));
    assert!(!host.ok(&["image", "ls"]).contains("busybox"));
}

#[test]
fn a_limit_whose_controller_is_missing_is_refused_by_name() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let controller = std::path::Path::new("/sys/fs/cgroup/memory");
    if !controller.is_dir() {
        tests::skip("the memory controller cannot be hidden where cgroups are version 2");
        return;
    }
    let hidden = std::process::Command::new("umount").arg(controller).status().unwrap();
    assert!(hidden.success());
    let error = host.fails(125, &["run", "--memory", "16m", "--network", "none", "busybox", "true"]);
    assert!(error.contains("memory"), "{error}");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "without"]), "without\n");
}
