use super::*;
use crate::run::conduct;

/// A stand-in for the binary: a shell script that keeps to the agreed command line and JSON, and serves HTTP by nothing
/// at all; it is ready by its output.
const FAKE: &str = r#"#!/bin/sh
while [ "$1" = "--root" ]; do shift 2; done
case "$1" in
--version) echo "carve 0.0.0-fake"; exit 0;;
doctor) echo '{"kvm":"none"}'; exit 0;;
stats) echo '{"guest":null}'; exit 0;;
image) mkdir -p "$4/bin" && cp /bin/busybox "$4/bin/busybox" && ln -s busybox "$4/bin/sleep" && exit 0; exit 1;;
inspect)
  pid=$(cat "$DIR/$2.pid") || exit 1
  echo '{"pids":{"monitor":'$pid',"init":null},"cgroup":{"memory":"/nowhere","version":1},'
  echo '"image":{"digest":"sha256:fake","layers":[{"compressed_bytes":7,"stored_bytes":9}]},'
  echo '"writable":{"allocated_bytes":4096}}'
  exit 0;;
run) ;;
*) exit 64;;
esac
shift
while [ $# -gt 0 ]; do
  case "$1" in
    --name) name=$2; shift 2;;
    --events) events=$2; shift 2;;
    --memory|--cpus|--network|-p) shift 2;;
    --vm) echo "no /dev/kvm here" >&2; exit 125;;
    --*) shift;;
    *) break;;
  esac
done
echo $$ > "$DIR/$name.pid"
ns() { read -r s _ < /proc/uptime; echo "${s%.*}${s#*.}0000000"; }
echo '{"event":"cli.start","ns":'$(ns)'}' >> "$events"
echo '{"event":"app.started","ns":'$(ns)',"pid":'$$'}' >> "$events"
trap 'rm -f "$DIR/$name.pid"; kill $! 2>/dev/null; exit 0' INT
echo "ready"
sleep 60 &
wait
"#;

struct Fake {
    _dir: tempfile::TempDir,
    carve: PathBuf,
}

fn fake() -> Fake {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let carve = dir.path().join("carve");
    let script = FAKE.replace("$DIR", &dir.path().display().to_string());
    std::fs::write(&carve, script).expect("written");
    std::fs::set_permissions(&carve, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Fake { _dir: dir, carve }
}

fn options(fake: &Fake) -> Options {
    Options {
        ready: Ready::Output,
        network: false,
        samples: 2,
        ready_timeout: Duration::from_secs(20),
        ..Options::new(fake.carve.clone(), "demo")
    }
}

#[test]
fn a_whole_run_against_the_agreed_command_line() {
    let fake = fake();
    let options = options(&fake);
    let mut host = Host::new(&options).expect("an executor");
    let report = conduct(&options, &mut host, &mut ()).expect("the container runs");
    assert!(report.absent[0].reason.contains("no /dev/kvm here"), "{:?}", report.absent);
    let container = report.measured("container").expect("measured");
    assert_eq!(container.samples.len(), 2);
    assert_eq!(report.experiment.reply.as_deref(), Some("ready"));
    assert_eq!(report.experiment.digest.as_deref(), Some("sha256:fake"));
    for sample in &container.samples {
        assert!(sample.start_ms > 0.0 && sample.stop_ms.is_some());
        assert!(sample.memory.as_ref().is_some_and(|memory| memory.process_bytes > 0));
        assert!(sample.left_behind.is_empty(), "{:?}", sample.left_behind);
    }
    assert_eq!(container.size.as_ref().and_then(|size| size.own_bytes), Some(4096));
    assert_eq!(report.environment.fact("carve"), Some("carve 0.0.0-fake"));
    assert!(report.environment.doctor.is_some());
}

#[test]
fn the_command_line_is_the_agreed_one() {
    let options = Options {
        root: Some("/r".into()),
        memory: Some("128m".into()),
        cpus: Some(1.5),
        command: vec!["httpd".into(), "-f".into()],
        ..Options::new("/bin/carve".into(), "demo")
    };
    let host = Host::new(&options).expect("an executor");
    assert_eq!(
        host.command_line(Runtime::Vm, "N", "1234", "F").join(" "),
        "/bin/carve --root /r run --vm --rm --name N -p 127.0.0.1:1234:80 --memory 128m --cpus 1.5 \
         --events F demo httpd -f"
    );
    assert_eq!(
        host.command_line(Runtime::Container, "N", "1234", "F").join(" "),
        "/bin/carve --root /r run --rm --name N -p 127.0.0.1:1234:80 --memory 128m --cpus 1.5 --events F demo httpd -f"
    );
}

#[test]
fn with_a_peer_all_start_in_the_same_wrapper() {
    let options = Options {
        runtimes: vec![Runtime::Container, Runtime::Crun],
        ready: Ready::Output,
        network: false,
        command: vec!["true".into()],
        ..Options::new("carve".into(), "demo")
    };
    let host = Host::new(&options).expect("an executor");
    for runtime in [Runtime::Container, Runtime::Crun] {
        assert_eq!(host.command_line(runtime, "N", "1", "F")[..3], ["unshare", "-m", "sh"]);
    }
}

#[test]
fn an_app_that_is_never_ready_is_an_error_that_says_what_was_seen_last() {
    let fake = fake();
    let options = Options {
        ready: Ready::Http { port: 80, path: "/".into() },
        network: true,
        ready_timeout: Duration::from_millis(300),
        ..options(&fake)
    };
    let mut host = Host::new(&options).expect("an executor");
    let error = host.sample(&Subject::of(Runtime::Container)).expect_err("nobody answers").to_string();
    assert!(error.contains("not ready (http:80/)") && error.contains("app.started"), "{error}");
}

#[test]
fn crun_runs_the_same_root_file_system() {
    let works = std::process::Command::new("crun").arg("--version").output().is_ok();
    let root = rustix::process::geteuid().is_root();
    if !works || !root || !Path::new("/bin/busybox").exists() {
        println!("skipped: this needs root, crun and busybox");
        return;
    }
    let fake = fake();
    let options = Options {
        runtimes: vec![Runtime::Crun],
        command: ["/bin/busybox", "sh", "-c", "echo ready; exec sleep 60"].map(str::to_owned).to_vec(),
        memory: Some("64m".into()),
        cpus: Some(1.0),
        ..options(&fake)
    };
    let mut host = Host::new(&options).expect("an executor");
    let crun = Subject::of(Runtime::Crun);
    host.prepare(&crun).expect("a bundle");
    let observation = host.sample(&crun).expect("crun runs it");
    assert_eq!(observation.reply, b"ready");
    assert!(
        observation.ready_ns > observation.spawn_ns && observation.left_behind.is_empty(),
        "{observation:?}"
    );
}
