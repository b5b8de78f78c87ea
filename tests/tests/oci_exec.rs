//! `carve oci exec`: further processes in a container.

use std::{
    fs,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Host, OciContainer, WAITING, wait_for};

#[test]
fn gives_the_programs_output_and_exit_status() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let output = bundle.run(&["exec", "ID", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    let _ = bundle.fails(137, &["exec", "ID", "sh", "-c", "kill -9 $$"]);
}

#[test]
fn what_cannot_be_executed_is_told_in_the_words_that_callers_look_for() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    fs::write(bundle.rootfs().join("etc/data"), "no program").unwrap();
    assert!(bundle.fails(255, &["exec", "ID", "nowhere"]).contains("executable file not found in"));
    assert!(bundle.fails(255, &["exec", "ID", "/etc/data"]).contains("permission denied"));
    assert!(bundle.fails(255, &["exec", "--cwd", "/none", "ID", "true"]).contains("/none: No such file"));
    assert!(bundle.fails(255, &["exec", "no-such-id", "true"]).contains("does not exist"));
    assert!(bundle.fails(255, &["exec", "--apparmor", "x", "ID", "true"]).contains("--apparmor"));
    let _ = bundle.ok(&["kill", "ID", "KILL"]);
    wait_for("its end", || bundle.ok(&["state", "ID"]).contains("\"stopped\"").then_some(()));
    assert!(bundle.fails(255, &["exec", "ID", "true"]).contains("it is stopped"));
}

#[test]
fn is_in_the_same_box_as_the_first_process() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
        config["process"]["oomScoreAdj"] = json!(321);
        config["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 0o27});
        config["hostname"] = json!("the-box");
    });
    bundle.start();
    let same = "for kind in cgroup ipc mnt net pid user uts; do readlink /proc/1/ns/$kind; done; cat /proc/1/cgroup; \
        grep -E '^(Cap|Secc|NoNew|Umask)' /proc/1/status; grep -E 'open files' /proc/1/limits; cat /proc/1/oom_score_adj";
    let of_first = bundle.sh(same);
    assert_eq!(bundle.sh(&same.replace("/1/", "/self/")), of_first);
    assert!(of_first.contains("Seccomp:\t2") && of_first.contains("Umask:\t0027"), "{of_first}");
    assert_eq!(bundle.sh("cat /proc/sys/kernel/hostname"), "the-box\n");
}

#[test]
fn flags_change_what_the_process_is() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        config["process"]["env"] = json!(["PATH=/bin", "GREETING=hello", "OTHER=kept"]);
    });
    fs::write(
        bundle.rootfs().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:12:34::/srv/web:/bin/sh\n",
    )
    .unwrap();
    bundle.start();
    let script = "id -u; id -g; id -G; pwd; echo $GREETING $OTHER $HOME";
    let flags = [
        "exec",
        "--user",
        "12:34",
        "-g",
        "56",
        "--env=GREETING=bye",
        "ID",
        "--cwd",
        "/tmp",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(bundle.ok(&flags), "12\n34\n34 56\n/tmp\nbye kept /srv/web\n");
    assert_eq!(bundle.sh("echo $HOME"), "/root\n");
    assert_eq!(bundle.ok(&["exec", "--env", "HOME=/own", "ID", "sh", "-c", "echo $HOME"]), "/own\n");
    let with_capability = ["exec", "--cap", "CAP_NET_ADMIN", "ID", "grep", "CapEff", "/proc/self/status"];
    assert_eq!(bundle.ok(&with_capability), "CapEff:\t00000000a80435fb\n");
}

#[test]
fn a_process_may_be_described_in_a_file() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let process = json!({"user": {"uid": 5, "gid": 6}, "cwd": "/etc", "env": ["PATH=/bin", "A=b"],
                         "args": ["sh", "-c", "id -u; pwd; echo $A; grep CapBnd /proc/self/status"]});
    fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
    let output = bundle.ok(&["exec", "--process", "process.json", "ID"]);
    assert_eq!(output, "5\n/etc\nb\nCapBnd:\t0000000000000000\n");
    let labelled = json!({"user": {}, "cwd": "/", "args": ["true"], "apparmorProfile": "x"});
    fs::write(bundle.dir.join("process.json"), labelled.to_string()).unwrap();
    assert!(bundle.fails(255, &["exec", "-p", "process.json", "ID"]).contains("process.apparmorProfile"));
}

#[test]
fn a_detached_process_lives_on_under_the_id_that_was_told() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let mut command = bundle.carve(&["exec", "--detach", "--pid-file", "pid", "ID", "sleep", "999"]);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let pid = fs::read_to_string(bundle.dir.join("pid")).unwrap();
    // The arguments are there a moment after the execution.
    let line = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    wait_for("its arguments", || (line() == "sleep\x00999\x00").then_some(()));
    let _ = bundle.ok(&["delete", "--force", "ID"]);
    wait_for("it ends with the container", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

#[test]
fn only_the_descriptors_asked_for_reach_the_program() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let list = "ls -1 /proc/self/fd | grep -v x; true";
    // The last one is the directory that ls reads.
    assert_eq!(bundle.sh(list), "0\n1\n2\n3\n");
    let given = |flags: &str, listening: &str| {
        let id = bundle.id();
        let root = host.oci_root();
        let carve = format!("{} oci --root {} exec", tests::binary().display(), root.display());
        let script = format!(
            "{listening} exec {carve} {flags} {id} sh -c '{list}; echo $LISTEN_FDS' 3</etc/hostname 4</etc"
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(given("", ""), (Some(0), "0\n1\n2\n3\n\n".to_owned()));
    assert_eq!(given("--preserve-fds 1", ""), (Some(0), "0\n1\n2\n3\n4\n\n".to_owned()));
    assert_eq!(
        given("--preserve-fds 1", "LISTEN_FDS=1 LISTEN_PID=$$"),
        (Some(0), "0\n1\n2\n3\n4\n5\n1\n".to_owned())
    );
    assert_eq!(given("--preserve-fds 3", ""), (Some(255), String::new()));
}

#[test]
fn signals_are_passed_on() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let script = "trap 'exit 3' TERM; echo > /tmp/ready; while :; do sleep 0.05; done";
    let mut client = bundle.carve(&["exec", "ID", "sh", "-c", script]).spawn().unwrap();
    wait_for("it runs", || bundle.run(&["exec", "ID", "cat", "/tmp/ready"]).status.success().then_some(()));
    let pid = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(3));
}

#[test]
fn a_run_that_is_killed_leaves_nothing_that_cannot_be_deleted() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    for delay_ms in [0, 2, 5, 10, 20, 50, 200] {
        let mut client = bundle.carve(&["run", "ID"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        client.kill().unwrap();
        client.wait().unwrap();
        let _ = bundle.ok(&["list"]);
        let _ = bundle.ok(&["delete", "--force", "ID"]);
        assert_eq!(bundle.ok(&["list", "--quiet"]), "");
    }
    // A signal that can be handled is the program's.
    let script = "trap 'exit 5' INT; echo > /tmp/ready; while :; do sleep 0.05; done";
    let path = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["args"] = json!(["sh", "-c", script]);
    fs::write(&path, config.to_string()).unwrap();
    let mut client = bundle.carve(&["run", "ID"]).stdout(Stdio::null()).spawn().unwrap();
    let ready = bundle.rootfs().join("tmp/ready");
    wait_for("it runs", || ready.exists().then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&client), Signal::INT).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(5));
    assert_eq!(bundle.ok(&["list", "--quiet"]), "");
}

#[test]
fn no_working_directory_leads_out() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let directory = fs::File::open("/etc").unwrap();
    // Held by the command, and so by what it starts, unless that lets go of it.
    rustix::io::fcntl_setfd(directory.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    for number in 0..40 {
        for link in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/1/fd/{number}/.."),
            format!("/dev/fd/{number}"),
        ] {
            let output = bundle.run(&["exec", "--cwd", &link, "ID", "sh", "-c", "pwd; ls"]);
            let outside = String::from_utf8_lossy(&output.stdout).contains("hostname");
            assert!(!outside && output.status.code() == Some(255), "{link}: {output:?}");
        }
    }
}

#[test]
fn a_program_that_is_the_process_itself_finds_nothing_of_the_hosts() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    rustix::fs::chmod(&script, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    bundle.start();
    for program in ["/proc/self/exe", "/script", "/proc/self/fd/3", "/proc/self/fd/5"] {
        // Were it carve's own binary, it would print its usage.
        let mut command = bundle.carve(&["exec", "ID", program, "--help"]);
        let output = command.output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{program}: {output:?}");
    }
}

#[test]
fn nobody_inside_looks_into_a_process_that_enters() {
    let Some(host) = Host::for_containers() else { return };
    let names = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_KILL"];
    // All that helps to look, and no filter in the way.
    let watcher = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
        for f in $p/exe $p/fd/*; do t=$(readlink $f) || continue; \
        case $t in */carve|*/oci/*|*pidfd*) echo \"$f $t\" >> /tmp/seen;; esac; done; done; done";
    let bundle = OciContainer::new(&host, &["sh", "-c", watcher], |config| {
        // Without the right to trace, as is usual, and with everything else.
        let names = &names[1..];
        config["process"]["capabilities"] =
            json!({"bounding": names, "permitted": names, "effective": names});
        config["linux"].as_object_mut().unwrap().remove("seccomp");
    });
    bundle.start();
    for _ in 0..60 {
        let _ = bundle.ok(&["exec", "ID", "true"]);
    }
    let seen = fs::read_to_string(bundle.rootfs().join("tmp/seen")).unwrap_or_default();
    assert_eq!(seen, "");
}

#[test]
fn a_false_proc_and_dev_do_not_mislead() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        // Neither /proc nor /dev is the kernel's.
        config["mounts"] = json!([]);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let rootfs = bundle.rootfs();
    for dir in ["proc/self/fd", "proc/self/ns", "proc/1"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    for (link, to) in
        [("proc/self/exe", "/bin/true"), ("proc/self/fd/3", "/"), ("etc/passwd", "/proc/self/exe")]
    {
        std::os::unix::fs::symlink(to, rootfs.join(link)).unwrap();
    }
    bundle.start();
    assert_eq!(bundle.sh("echo $HOME; ls /proc/self/fd"), "/\n3\n");
}

#[test]
fn further_processes_run_on_the_cpus_given() {
    let Some(host) = Host::for_containers() else { return };
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": last.to_string()});
    });
    bundle.start();
    let allowed = bundle.sh("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(allowed, format!("Cpus_allowed_list:\t{last}\n"));
}

#[test]
fn a_container_with_user_ids_of_its_own_is_joined_as_its_root() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    bundle.start();
    assert_eq!(
        bundle.sh("id -u; id -g; readlink /proc/self/ns/user"),
        bundle.sh("echo 0; echo 0; readlink /proc/1/ns/user")
    );
    assert_eq!(bundle.ok(&["exec", "--user", "5:6", "ID", "id", "-u"]), "5\n");
}

#[test]
fn a_mount_namespace_that_others_are_in_does_not_show_its_root() {
    let Some(host) = Host::for_containers() else { return };
    let mut holder = Command::new("unshare").args(["-m", "sleep", "1000"]).spawn().unwrap();
    let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let theirs = format!("/proc/{}/ns/mnt", holder.id());
    wait_for("a mount namespace", || (fs::read_link(&theirs).ok()? != own).then_some(()));
    let bundle = OciContainer::new(&host, &WAITING, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
        namespaces.push(json!({"type": "mount", "path": theirs}));
    });
    fs::write(bundle.rootfs().join("etc/marker"), "inside").unwrap();
    bundle.start();
    let seen = bundle.run(&["exec", "ID", "sh", "-c", "cat /etc/marker; pwd; ls /etc/hostname"]);
    drop(bundle);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "inside/\n");
}

#[test]
fn a_root_that_is_only_moved_over_the_hosts_hides_it() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    let mut command = bundle.carve(&["run", "--detach", "--no-pivot", "ID"]);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let entries = "ls /; ls /proc/1/root/; cd ..; ls ../..";
    assert_eq!(bundle.sh(entries), "bin\ndev\netc\nproc\nsys\ntmp\n".repeat(3));
    assert_eq!(bundle.sh("grep -c ' /sys/fs/cgroup/unified/\\|/var\\|/home' /proc/mounts; true"), "0\n");
}

#[test]
fn the_session_keyring_is_the_containers_unless_it_is_not_to_be() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &["cat", "/proc/keys"], |config| {
        config["linux"]["maskedPaths"] = json!([]);
    });
    let name = format!("_ses.{}", bundle.id());
    // First: a keyring that is no longer used stays in the list for a while.
    let outer = bundle.ok(&["run", "--no-new-keyring", "ID"]);
    let own = bundle.ok(&["run", "ID"]);
    if own.is_empty() {
        tests::skip("this kernel has no list of keys");
        return;
    }
    assert!(own.contains(&name), "{own}");
    assert!(!outer.contains(&name), "{outer}");
}

#[test]
fn a_paused_container_is_left_alone_unless_asked_otherwise() {
    let Some(host) = Host::for_containers() else { return };
    let bundle = OciContainer::new(&host, &WAITING, |_| ());
    bundle.start();
    let _ = bundle.ok(&["pause", "ID"]);
    assert!(bundle.fails(255, &["exec", "ID", "true"]).contains("it is paused"));
    let mut waiting = bundle.carve(&["exec", "--ignore-paused", "ID", "sh", "-c", "exit 6"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits with the others");
    let _ = bundle.ok(&["resume", "ID"]);
    assert_eq!(waiting.wait().unwrap().code(), Some(6));
}

#[test]
fn what_a_run_in_the_foreground_holds_back_it_does_not_hold_back_from_hooks() {
    let Some(host) = Host::for_containers() else { return };
    let seen = host.path("seen");
    let script = format!("grep SigBlk /proc/self/status > {}", seen.display());
    let bundle = OciContainer::new(&host, &["true"], |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let _ = bundle.ok(&["run", "ID"]);
    assert_eq!(fs::read_to_string(seen).unwrap(), "SigBlk:\t0000000000000000\n");
}
