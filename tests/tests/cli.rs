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
        "vm profile",
        "image",
        "image import",
        "image load",
        "image ls",
        "image inspect",
        "image rm",
        "image unpack",
        "vm",
        "bench",
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
    assert!(text.contains("cgroups") && text.contains("/dev/kvm") && text.contains("auto takes"), "{text}");
    let report: serde_json::Value =
        serde_json::from_slice(&host.run(&["doctor", "--format", "json"]).stdout).unwrap();
    assert_eq!(report["container"], true);
    assert!(report["findings"].as_array().is_some_and(|f| f.len() > 10));
}

#[test]
fn without_dev_kvm_or_root_the_error_says_what_to_do() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    if tests::kernel().is_some() {
        // A /dev of this test's own, with nothing in it but what any program needs.
        let hide =
            "mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9";
        let hidden = std::process::Command::new("sh").args(["-c", hide]).status().unwrap();
        assert!(hidden.success());
        let error = host.fails(125, &["run", "--vm", "--network", "none", "busybox", "true"]);
        let shown = std::process::Command::new("umount").arg("/dev").status().unwrap();
        assert!(shown.success());
        assert!(error.contains("/dev/kvm"), "{error}");
    }

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
