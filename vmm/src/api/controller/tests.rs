use super::*;
use crate::api::fake::{ask, controller, controller_with};
use crate::api::http::Method::{Get, Patch, Put};

const BOOT: &str = r#"{"kernel_image_path": "vmlinux", "boot_args": "quiet"}"#;
const START: &str = r#"{"action_type": "InstanceStart"}"#;
const ROOT: &str =
    r#"{"drive_id": "root", "path_on_host": "r.img", "is_root_device": true, "is_read_only": false}"#;

/// What is wrong with it.
fn fault(response: &Response) -> String {
    assert_eq!(response.status, Status::BadRequest, "{}", response.body);
    let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    body["fault_message"].as_str().unwrap().to_owned()
}

fn state(controller: &mut Controller) -> String {
    let body: serde_json::Value = serde_json::from_str(&ask(controller, Get, "/", "").body).unwrap();
    body["state"].as_str().unwrap().to_owned()
}

/// A controller whose machine runs.
fn started() -> (Controller, crate::api::fake::Log) {
    let (mut api, log) = controller();
    for (path, body) in [("/boot-source", BOOT), ("/drives/root", ROOT), ("/actions", START)] {
        assert_eq!(ask(&mut api, Put, path, body), Response::done());
    }
    (api, log)
}

#[test]
fn a_machine_is_described_started_paused_and_resumed() {
    let (mut api, log) = started();
    assert_eq!(*log.borrow(), [r#"boot vmlinux "root=/dev/vda rw quiet""#]);
    assert_eq!(state(&mut api), "Running");
    assert_eq!(ask(&mut api, Patch, "/vm", r#"{"state": "Paused"}"#), Response::done());
    assert_eq!(state(&mut api), "Paused");
    assert_eq!(ask(&mut api, Patch, "/vm", r#"{"state": "Resumed"}"#), Response::done());
    assert_eq!(state(&mut api), "Running");
}

#[test]
fn what_comes_too_late_or_too_early_is_refused() {
    let (mut api, _) = controller();
    let early = "The requested operation is not supported before starting the microVM.";
    let late = "The requested operation is not supported after starting the microVM.";
    assert_eq!(state(&mut api), "Not started");
    assert_eq!(fault(&ask(&mut api, Patch, "/vm", r#"{"state": "Paused"}"#)), early);
    let snapshot = r#"{"snapshot_path": "s", "mem_file_path": "m"}"#;
    assert_eq!(fault(&ask(&mut api, Put, "/snapshot/create", snapshot)), early);
    let (mut api, _) = started();
    assert_eq!(fault(&ask(&mut api, Put, "/boot-source", BOOT)), late);
    assert_eq!(fault(&ask(&mut api, Put, "/actions", START)), late);
    assert_eq!(fault(&ask(&mut api, Put, "/snapshot/load", snapshot_load("")).clone()), late);
}

fn snapshot_load(rest: &str) -> &'static str {
    Box::leak(format!(r#"{{"snapshot_path": "s", "mem_file_path": "m" {rest}}}"#).into_boxed_str())
}

#[test]
fn a_machine_that_cannot_start_can_be_described_otherwise() {
    let (mut api, _) = controller();
    assert!(fault(&ask(&mut api, Put, "/actions", START)).contains("PUT /boot-source"));
    ask(&mut api, Put, "/boot-source", BOOT);
    ask(&mut api, Put, "/machine-config", r#"{"vcpu_count": 1, "mem_size_mib": 1}"#);
    assert!(fault(&ask(&mut api, Put, "/actions", START)).contains("1 MiB of memory"));
    ask(&mut api, Patch, "/machine-config", r#"{"mem_size_mib": 64}"#);
    assert_eq!(ask(&mut api, Put, "/actions", START), Response::done());
}

#[test]
fn a_refused_description_changes_nothing() {
    let (mut api, _) = controller();
    let before = ask(&mut api, Get, "/vm/config", "");
    for (path, body) in [
        ("/machine-config", r#"{"vcpu_count": 0, "mem_size_mib": 64}"#),
        ("/balloon", r#"{"amount_mib": 129, "deflate_on_oom": false}"#),
        ("/serial", r#"{"rate_limiter": {"size": 1, "refill_time": 1}}"#),
        ("/drives/d", r#"{"drive_id": "d", "is_root_device": true}"#),
    ] {
        fault(&ask(&mut api, Put, path, body));
        assert_eq!(ask(&mut api, Get, "/vm/config", ""), before, "{path} {body}");
    }
}

#[test]
fn a_snapshot_needs_a_machine_that_stands_still() {
    let (mut api, log) = started();
    let body = r#"{"snapshot_type": "Diff", "snapshot_path": "s", "mem_file_path": "m"}"#;
    assert!(fault(&ask(&mut api, Put, "/snapshot/create", body)).contains("not paused"));
    ask(&mut api, Patch, "/vm", r#"{"state": "Paused"}"#);
    assert_eq!(ask(&mut api, Put, "/snapshot/create", body), Response::done());
    assert_eq!(log.borrow().last().unwrap(), "snapshot s m Diff");
}

#[test]
fn a_machine_comes_from_a_snapshot_instead_of_a_description() {
    let (mut api, log) = controller();
    ask(&mut api, Put, "/logger", r#"{"level": "Info"}"#);
    let overrides = r#", "network_overrides": [{"iface_id": "eth0", "host_dev_name": "tap9"}]"#;
    assert_eq!(ask(&mut api, Put, "/snapshot/load", snapshot_load(overrides)), Response::done());
    assert_eq!((state(&mut api).as_str(), log.borrow().last().unwrap().as_str()), ("Paused", "restore s m"));
    let config = ask(&mut api, Get, "/vm/config", "").body;
    assert!(config.contains("tap9") && config.contains(r#""level":"Info""#), "{config}");

    let (mut api, _) = controller();
    ask(&mut api, Put, "/snapshot/load", snapshot_load(r#", "resume_vm": true"#));
    assert_eq!(state(&mut api), "Running");

    let (mut api, _) = controller();
    ask(&mut api, Put, "/boot-source", BOOT);
    let refused = fault(&ask(&mut api, Put, "/snapshot/load", snapshot_load("")));
    assert!(refused.contains("not allowed after configuring"), "{refused}");

    let (mut api, _) = controller();
    let unknown = r#", "network_overrides": [{"iface_id": "eth1", "host_dev_name": "tap9"}]"#;
    let refused = fault(&ask(&mut api, Put, "/snapshot/load", snapshot_load(unknown)));
    assert!(refused.contains("no network card \"eth1\"; it has eth0"), "{refused}");
    assert_eq!(state(&mut api), "Not started");
}

#[test]
fn devices_are_changed_while_the_guest_runs() {
    let (mut api, log) = controller();
    let net = r#"{"iface_id": "eth0", "host_dev_name": "tap0"}"#;
    for (path, body) in [
        ("/boot-source", BOOT),
        ("/drives/data", &ROOT.replace("root\"", "data\"").replace("true", "false")),
        ("/drives/root", ROOT),
        ("/network-interfaces/eth0", net),
        ("/actions", START),
    ] {
        assert_eq!(ask(&mut api, Put, path, body), Response::done(), "{path}");
    }
    let limits = r#""ops": {"size": 7, "refill_time": 100}"#;
    for (path, body) in [
        ("/drives/data", r#"{"drive_id": "data", "path_on_host": "new"}"#.to_owned()),
        ("/drives/root", format!(r#"{{"drive_id": "root", "rate_limiter": {{{limits}}}}}"#)),
        (
            "/drives/root",
            format!(r#"{{"drive_id": "root", "rate_limiter": {{{}}}}}"#, limits.replace("ops", "bandwidth")),
        ),
        ("/network-interfaces/eth0", format!(r#"{{"iface_id": "eth0", "tx_rate_limiter": {{{limits}}}}}"#)),
    ] {
        assert_eq!(ask(&mut api, Patch, path, &body), Response::done(), "{path}");
    }
    let told = log.borrow()[1..].to_vec();
    let expected =
        [r#"disk 1 Some("new") None"#, "disk 0 None Some(7)", "disk 0 None None", "net 0 None Some(7)"];
    assert_eq!(told, expected);
    let config: Description = serde_json::from_str(&ask(&mut api, Get, "/vm/config", "").body).unwrap();
    assert_eq!(config.drives[1].path_on_host.as_deref(), Some("new"));
    assert_eq!(config.drives[0].path_on_host.as_deref(), Some("r.img"));
    let limits = config.drives[0].rate_limiter.unwrap();
    assert_eq!((limits.ops, limits.bandwidth.map(|limit| limit.size)), (limits.bandwidth, Some(7)));
    assert!(config.network_interfaces[0].tx_rate_limiter.is_some());
    let absent = ask(&mut api, Patch, "/drives/x", r#"{"drive_id": "x"}"#);
    assert_eq!(fault(&absent), "the machine has no drive \"x\"");
}

#[test]
fn figures_come_on_request_and_go_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics");
    let (mut api, _) = controller();
    assert!(
        fault(&ask(&mut api, Put, "/actions", r#"{"action_type": "FlushMetrics"}"#)).contains("/metrics")
    );
    let body = serde_json::json!({ "metrics_path": path }).to_string();
    for (path, body) in [("/boot-source", BOOT), ("/metrics", &*body), ("/actions", START)] {
        assert_eq!(ask(&mut api, Put, path, body), Response::done());
    }
    let figures = ask(&mut api, Get, "/metrics", "").body;
    assert!(figures.contains(r#""block":{"read_count":7},"block_a":{"read_count":3}"#), "{figures}");
    let kvm = r#""kvm_vm":{"exits":9},"now":{"boot_ns":{"first_run":11},"kvm_vm":{"pages":5}}"#;
    assert!(figures.contains(kvm), "{figures}");
    ask(&mut api, Put, "/actions", r#"{"action_type": "FlushMetrics"}"#);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
}

#[test]
fn a_balloon_is_resized_and_says_what_the_guest_told_it() {
    let (mut api, _) = controller();
    let none = "No balloon device found.";
    assert_eq!(fault(&ask(&mut api, Get, "/balloon", "")), none);
    ask(&mut api, Put, "/boot-source", BOOT);
    ask(
        &mut api,
        Put,
        "/balloon",
        r#"{"amount_mib": 8, "deflate_on_oom": true, "stats_polling_interval_s": 5}"#,
    );
    assert!(ask(&mut api, Get, "/balloon", "").body.contains(r#""amount_mib":8"#));
    ask(&mut api, Put, "/actions", START);
    assert_eq!(ask(&mut api, Patch, "/balloon", r#"{"amount_mib": 64}"#), Response::done());
    assert!(ask(&mut api, Get, "/balloon", "").body.contains(r#""amount_mib":64"#));
    assert!(ask(&mut api, Get, "/vm/config", "").body.contains(r#""amount_mib":64"#));
    assert!(ask(&mut api, Get, "/balloon/statistics", "").body.contains(r#""target_mib":64"#));
    assert!(
        fault(&ask(&mut api, Patch, "/balloon", r#"{"amount_mib": 129}"#)).contains("129 MiB does not fit")
    );
    let interval = |seconds| format!(r#"{{"stats_polling_interval_s": {seconds}}}"#);
    assert_eq!(ask(&mut api, Patch, "/balloon/statistics", &interval(9)), Response::done());
    let off = fault(&ask(&mut api, Patch, "/balloon/statistics", &interval(0)));
    assert_eq!(off, "Cannot enable/disable the statistics after boot.");
    let (mut api, _) = started();
    assert_eq!(fault(&ask(&mut api, Patch, "/balloon", r#"{"amount_mib": 1}"#)), none);
}

#[test]
fn clients_of_a_jailed_machine_name_files_of_its_root_or_none() {
    let (files, drive) =
        (r#"{"snapshot_path": "s", "mem_file_path": "m"}"#, r#"{"drive_id": "r", "path_on_host": "n"}"#);
    let (mut api, log) = controller_with(Files::None);
    ask(&mut api, Put, "/boot-source", BOOT);
    ask(&mut api, Put, "/drives/r", r#"{"drive_id": "r", "path_on_host": "r.img", "is_root_device": false}"#);
    ask(&mut api, Put, "/actions", START);
    ask(&mut api, Patch, "/vm", r#"{"state": "Paused"}"#);
    log.borrow_mut().clear();
    for answer in [ask(&mut api, Put, "/snapshot/create", files), ask(&mut api, Patch, "/drives/r", drive)] {
        assert!(fault(&answer).contains("--jail-root DIR"), "{answer:?}");
    }
    assert_eq!(log.borrow().len(), 0, "the machine hears nothing of it");
    assert_eq!(ask(&mut api, Patch, "/drives/r", r#"{"drive_id": "r"}"#), Response::done());

    let metrics = r#"{"metrics_path": "/no/such/directory/metrics"}"#;
    for (files, hint) in [(Files::InRoot, true), (Files::All, false)] {
        let (mut api, _) = controller_with(files);
        let answer = fault(&ask(&mut api, Put, "/metrics", metrics));
        assert!(answer.contains("/no/such/directory"), "{answer}");
        assert_eq!(answer.contains("in its jail's root only"), hint, "{answer}");
    }
}
