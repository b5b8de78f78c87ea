//! Seccomp filters that ask an agent, and other actions that show only in a real process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use container::ExitStatus;
use serde_json::{Value, json};

use crate::harness::{Bundle, Case, HELPER};

pub(crate) const CASES: &[Case] = &[
    ("an_agent_answers_for_calls", an_agent_answers_for_calls),
    ("an_agent_may_be_asked_about_what_set_up_uses", an_agent_may_be_asked_about_what_set_up_uses),
    ("an_agent_that_is_not_there_is_named", an_agent_that_is_not_there_is_named),
    ("actions_other_than_asking_take_effect", actions_other_than_asking_take_effect),
];

/// The agent in a process of its own, and the directory with its socket.
struct Agent {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    dir: tempfile::TempDir,
}

impl Agent {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([HELPER, "agent"])
            .arg(dir.path().join("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
        Self { process, out, dir }
    }

    /// A filter that asks it about these calls and allows all others.
    fn filter(&self, calls: &[&str]) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": self.dir.path().join("socket"),
            "listenerMetadata": "for the agent",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}],
        })
    }

    /// What it was sent, and what it was asked, once it has nobody left to serve.
    fn ended(mut self) -> (Value, String) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        assert!(self.process.wait().unwrap().success());
        let (sent, asked) = text.split_once('\n').unwrap();
        (serde_json::from_str(sent).unwrap(), asked.to_owned())
    }
}

fn an_agent_answers_for_calls() {
    for no_new_privileges in [true, false] {
        let agent = Agent::new();
        let script =
            "cd /tmp; busybox mkdir forbidden; busybox mkdir pretended && ls; busybox mkdir real && ls";
        let bundle = Bundle::script(script).with(|config| {
            config["linux"]["seccomp"] = agent.filter(&["mkdir"]);
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["annotations"] = json!({"org.example": "yes"});
        });
        let ended = bundle.run();
        let (sent, asked) = agent.ended();
        let quota = ended.output.contains("uota exceeded");
        assert!(quota && ended.output.ends_with("\nreal\n"), "{no_new_privileges}: {}", ended.output);
        assert!(!ended.output.contains("pretended"), "{}", ended.output);
        assert!(asked.contains("mkdir forbidden\nmkdir pretended\nmkdir real\n"), "{asked}");
        assert_eq!(sent["fds"], json!(["seccompFd"]));
        assert_eq!(sent["metadata"], "for the agent");
        assert_eq!(sent["ociVersion"], bundle.config["ociVersion"]);
        assert_eq!(sent["state"]["status"], "creating");
        assert_eq!(sent["state"]["pid"], sent["pid"]);
        assert_eq!(sent["state"]["bundle"], json!(bundle.dir.path()));
        assert_eq!(sent["state"]["annotations"]["org.example"], "yes");
    }
}

fn an_agent_may_be_asked_about_what_set_up_uses() {
    for no_new_privileges in [true, false] {
        let agent = Agent::new();
        let calls = ["sendto", "sendmsg", "recvfrom", "execve", "execveat", "setresuid", "prctl", "write"];
        let bundle = Bundle::new(&["echo", "hello"]).with(|config| {
            config["linux"]["seccomp"] = agent.filter(&calls);
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        });
        let output = bundle.output();
        let (_, asked) = agent.ended();
        assert_eq!(output, "hello\n");
        assert!(asked.contains(&format!("call {}\n", libc::SYS_sendto)), "{asked}");
        assert!(asked.contains(&format!("call {}\n", libc::SYS_execve)), "{asked}");
    }
}

fn an_agent_that_is_not_there_is_named() {
    let bundle = Bundle::new(&["true"]).with(|config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    });
    let error = bundle.create_error();
    assert!(error.contains("linux.seccomp.listenerPath: /no/agent: No such file"), "{error}");
}

fn actions_other_than_asking_take_effect() {
    let run = |action: &str, more: Value| {
        let mut rule = json!({"names": ["mkdir", "no_such_call_at_all"], "action": action});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bundle = Bundle::new(&["busybox", "mkdir", "/tmp/made", "-m", "700"]).with(|config| {
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule],
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]});
        });
        bundle.run()
    };
    let nothing = || json!({});
    assert_eq!(run("SCMP_ACT_KILL_PROCESS", nothing()).status, ExitStatus::Signaled(libc::SIGSYS));
    assert_eq!(run("SCMP_ACT_KILL", nothing()).status, ExitStatus::Signaled(libc::SIGSYS));
    assert_eq!(run("SCMP_ACT_TRAP", nothing()).status, ExitStatus::Signaled(libc::SIGSYS));
    assert_eq!(run("SCMP_ACT_LOG", nothing()).status, ExitStatus::Exited(0));
    let traced = run("SCMP_ACT_TRACE", nothing());
    assert!(traced.output.contains("not implemented"), "{traced:?}");
    let errno = run("SCMP_ACT_ERRNO", json!({"errnoRet": libc::EDQUOT}));
    assert!(errno.output.contains("uota exceeded"), "{errno:?}");
    // Asked for 0700; the mask leaves the bits of others, of which none are set.
    let masked = |wanted: u64| json!({"args": [{"index": 1, "value": 0o007, "valueTwo": wanted, "op": "SCMP_CMP_MASKED_EQ"}], "errnoRet": 122});
    assert!(run("SCMP_ACT_ERRNO", masked(7)).output.contains("uota exceeded"));
    assert_eq!(run("SCMP_ACT_ERRNO", masked(1)).status, ExitStatus::Exited(0));
}
