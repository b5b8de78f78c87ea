//! `carve bench run`: a comparison on real parts, with few samples.

use tests::Host;

#[test]
fn compares_a_container_with_itself_and_with_crun() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    if std::process::Command::new("crun").arg("--version").output().is_err() {
        tests::skip("crun is not installed; `cargo xtask setup` installs it");
        return;
    }
    let (json, html) = (host.path("report.json"), host.path("report.html"));
    let (json, html) = (json.to_str().unwrap(), html.to_str().unwrap());
    let table = host.ok(&[
        "bench",
        "run",
        "--runtimes",
        "container,crun",
        "--ready",
        "output",
        "--network",
        "none",
        "--samples",
        "3",
        "--json",
        json,
        "--html",
        html,
        "busybox",
        "--",
        "sh",
        "-c",
        "echo ready; sleep 1",
    ]);
    assert!(table.contains("container") && table.contains("crun"), "{table}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let subjects = report["subjects"].as_array().unwrap();
    assert_eq!(subjects.len(), 3, "container, its control, crun: {report:#}");
    if host.run(&["doctor"]).status.success() {
        assert_eq!(report["environment"]["doctor"]["vm"], true, "the host is described");
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") && page.contains("crun"));
}

#[test]
fn an_app_that_never_gets_ready_is_an_error_and_leaves_nothing() {
    let Some(host) = Host::for_containers() else { return };
    host.import_busybox();
    let error = host.fails(
        125,
        &[
            "bench",
            "run",
            "--runtimes",
            "container",
            "--ready",
            "output",
            "--network",
            "none",
            "busybox",
            "--",
            "true",
        ],
    );
    assert!(error.contains("container"), "{error}");
}
