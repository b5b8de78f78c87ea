//! What the program in a container is given: its arguments, environment, user, directory, names and limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use container::{CreateError, ExitStatus, StartError};
use serde_json::json;

use crate::harness::{Bundle, Case};

pub(crate) const CASES: &[Case] = &[
    ("echo_comes_out", echo_comes_out),
    ("exit_codes_and_signals_are_told_apart", exit_codes_and_signals_are_told_apart),
    ("a_missing_program_is_127_and_a_forbidden_one_126", a_missing_program_is_127_and_a_forbidden_one_126),
    (
        "what_only_its_execution_shows_is_told_at_the_start",
        what_only_its_execution_shows_is_told_at_the_start,
    ),
    ("it_is_process_1_with_its_own_host_name", it_is_process_1_with_its_own_host_name),
    ("environment_and_directory_are_as_configured", environment_and_directory_are_as_configured),
    ("a_user_has_its_groups_and_umask", a_user_has_its_groups_and_umask),
    ("signals_are_at_their_defaults", signals_are_at_their_defaults),
    ("rlimits_are_set_and_clamped_with_a_warning", rlimits_are_set_and_clamped_with_a_warning),
    ("a_program_is_found_along_the_path", a_program_is_found_along_the_path),
    ("sysctls_are_set_in_its_namespaces", sysctls_are_set_in_its_namespaces),
    ("it_is_scheduled_as_configured", it_is_scheduled_as_configured),
    ("an_unknown_capability_is_left_out_with_a_warning", an_unknown_capability_is_left_out_with_a_warning),
    ("both_names_of_the_host_are_its_own", both_names_of_the_host_are_its_own),
    ("cpus_of_further_processes_are_not_the_first_ones", cpus_of_further_processes_are_not_the_first_ones),
];

fn echo_comes_out() {
    assert_eq!(Bundle::new(&["echo", "hello", "world"]).output(), "hello world\n");
}

fn exit_codes_and_signals_are_told_apart() {
    assert_eq!(Bundle::script("exit 42").run().status, ExitStatus::Exited(42));
    // A shell that is process 1 ignores signals from inside, so a child of it has to die.
    let ended = Bundle::script("sh -c 'kill -9 $$'; echo $?").run();
    assert_eq!(ended.output.lines().last(), Some("137"));
}

fn a_missing_program_is_127_and_a_forbidden_one_126() {
    let refused = |bundle: &Bundle| match bundle.create(&tempfile::tempfile().unwrap()) {
        Err(CreateError::Program(error)) => error,
        other => panic!("{other:?}"),
    };
    let missing = refused(&Bundle::new(&["no-such-program"]));
    assert!(
        matches!(&missing, StartError::NotFound { program } if program == "no-such-program"),
        "{missing}"
    );
    assert_eq!(missing.exit_code(), 127);
    let bundle = Bundle::new(&["/etc/plain"]);
    fs::write(bundle.rootfs().join("etc/plain"), "text").unwrap();
    let forbidden = refused(&bundle);
    assert!(matches!(forbidden, StartError::PermissionDenied { .. }), "{forbidden}");
    assert_eq!(forbidden.exit_code(), 126);
    let directory = refused(&Bundle::new(&["/etc"]));
    assert!(matches!(directory, StartError::PermissionDenied { .. }), "{directory}");
}

fn what_only_its_execution_shows_is_told_at_the_start() {
    let bundle = Bundle::new(&["/etc/plain"]);
    fs::write(bundle.rootfs().join("etc/plain"), "text").unwrap();
    fs::set_permissions(bundle.rootfs().join("etc/plain"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut container = bundle.create(&tempfile::tempfile().unwrap()).unwrap();
    let error = container.start().unwrap_err();
    container.delete().unwrap();
    assert!(matches!(error, StartError::NotExecutable { .. }), "{error}");
}

fn it_is_process_1_with_its_own_host_name() {
    let bundle = Bundle::script("echo $$; hostname; ls /proc | busybox grep -c '^[0-9]'")
        .with(|config| config["hostname"] = json!("box"));
    let output = bundle.output();
    assert!(output.starts_with("1\nbox\n"), "{output}");
    let processes: u32 = output.lines().nth(2).unwrap().parse().unwrap();
    assert!(processes <= 3, "{output}");
}

fn environment_and_directory_are_as_configured() {
    let bundle = Bundle::script("pwd; echo $GREETING; busybox env | busybox wc -l").with(|config| {
        config["process"]["env"] = json!(["PATH=/bin", "GREETING=good day"]);
        config["process"]["cwd"] = json!("/made/where/missing");
    });
    let output = bundle.output();
    assert!(output.starts_with("/made/where/missing\ngood day\n"), "{output}");
}

fn a_user_has_its_groups_and_umask() {
    let bundle = Bundle::script("id -u; id -g; id -G; umask; echo x > /dev/stdout").with(|config| {
        config["process"]["user"] = json!({"uid": 12, "gid": 34, "additionalGids": [56], "umask": 63})
    });
    bundle.rootfs().ancestors().take(2).for_each(|dir| {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    });
    let ended = bundle.run();
    assert!(ended.output.starts_with("12\n34\n34 56\n0077\n"), "{}", ended.output);
}

fn signals_are_at_their_defaults() {
    // Rust ignores SIGPIPE in this very process; what it runs must not inherit that.
    let output = Bundle::new(&["busybox", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]).output();
    for line in output.lines() {
        assert!(line.ends_with("0000000000000000"), "{output}");
    }
    assert_eq!(output.lines().count(), 2);
}

fn rlimits_are_set_and_clamped_with_a_warning() {
    let bundle = Bundle::script("ulimit -n; ulimit -c").with(|config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 1_000_000_000_000u64},
                                               {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    });
    let output = tempfile::tempfile().unwrap();
    let mut container = bundle.create(&output).unwrap();
    let warnings = container.warnings().join("\n");
    container.delete().unwrap();
    assert!(warnings.contains("Nofile") && !warnings.contains("Core"), "{warnings}");
    assert_eq!(bundle.output(), "99\n0\n");
}

fn a_program_is_found_along_the_path() {
    let bundle =
        Bundle::new(&["tool"]).with(|config| config["process"]["env"] = json!(["PATH=/tmp:/etc:/bin"]));
    fs::write(bundle.rootfs().join("tmp/tool"), "not executable").unwrap();
    fs::copy("/bin/busybox", bundle.rootfs().join("etc/tool")).unwrap();
    let ended = bundle.run();
    assert!(ended.output.contains("applet not found"), "{ended:?}");
}

fn sysctls_are_set_in_its_namespaces() {
    let bundle = Bundle::script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni")
        .with(|config| {
            config["linux"]["sysctl"] =
                json!({"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "99"});
        });
    assert_eq!(bundle.output(), "7\n99\n");
}

fn it_is_scheduled_as_configured() {
    let script = "busybox cut -d' ' -f19,41 /proc/self/stat; busybox ionice; busybox uname -m; \
                  busybox grep -o -m1 bind:0 /proc/self/numa_maps";
    let bundle = Bundle::script(script).with(|config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    });
    // SCHED_BATCH is number 3.
    let output = bundle.output();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..3], ["5 3", "best-effort: prio 6", "i686"], "{output}");
    // A kernel without NUMA shows no policies.
    assert!(lines.get(3).is_none_or(|line| *line == "bind:0"), "{output}");
}

fn an_unknown_capability_is_left_out_with_a_warning() {
    let bundle = Bundle::script("busybox grep CapBnd /proc/self/status").with(|config| {
        config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_OF_THE_FUTURE"]});
    });
    let mut container = bundle.create(&tempfile::tempfile().unwrap()).unwrap();
    let warnings = container.warnings().join("\n");
    container.delete().unwrap();
    assert!(warnings.contains("CAP_OF_THE_FUTURE"), "{warnings}");
    assert_eq!(bundle.output(), "CapBnd:\t0000000000000020\n");
    let error = Bundle::new(&["true"])
        .with(|config| config["process"]["rlimits"] = json!([{"type": "RLIMIT_TIME", "soft": 1, "hard": 1}]))
        .create_error();
    assert!(error.contains("process.rlimits[0].type") && error.contains("RLIMIT_TIME"), "{error}");
}

fn both_names_of_the_host_are_its_own() {
    let script = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname";
    let by_fields = Bundle::script(script).with(|config| {
        config["hostname"] = json!("box");
        config["domainname"] = json!("example.org");
    });
    assert_eq!(by_fields.output(), "box\nexample.org\n");
    let by_parameter = Bundle::script(script)
        .with(|config| config["linux"]["sysctl"] = json!({"kernel.domainname": "example.net"}));
    assert!(by_parameter.output().ends_with("\nexample.net\n"));
}

fn cpus_of_further_processes_are_not_the_first_ones() {
    let script = "busybox grep Cpus_allowed_list /proc/self/status";
    let own = Bundle::script(script).output();
    let bundle = Bundle::script(script)
        .with(|config| config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"}));
    assert_eq!(bundle.output(), own);
}
