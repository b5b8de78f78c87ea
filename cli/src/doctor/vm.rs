//! `carve doctor --vm`: boots virtual machines as users do, by this program's own commands, and examines them.
//!
//! ```text
//!   each engine:  tiny guest ──► guest kernel, with the agent's self-test ──► snapshot ──► restore, goes on
//! ```

mod host;
mod linux_guest;
mod machine;
mod network;
mod report;
mod site;
mod tiny_guest;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use vmm::{Engine, KvmSurvey};

use super::Args;
use crate::exit::Exit;
use crate::format::Format;
use crate::guest;
use crate::progress::spinner;
use linux_guest::LinuxGuest;
use report::{Check, Report};
use site::Site;

/// How long a step may take where the hardware, or our interpreter, runs the guest's kernel: a busy host has time.
const PATIENCE: Duration = Duration::from_secs(60);
/// And where KVM emulates it.
const MUCH_PATIENCE: Duration = Duration::from_secs(900);

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let bar = spinner("examining virtual machines");
    let survey = KvmSurvey::take();
    let emulated = survey.as_ref().is_ok_and(|survey| survey.emulates_kernels);
    let mut report = Report { host: host::facts(survey.as_ref().ok()), checks: Vec::new() };
    let kvm = survey.map(|survey| format!("{} registers to save", survey.saved_msrs));
    report.checks.push(Check::new("kvm", "/dev/kvm", kvm.map_err(|e| e.to_string())));
    if report.is_good() {
        let site = Site::new()?;
        let guest = find_guest(args.guest_dir.clone());
        let tap = network::make_tap();
        for engine in [Engine::Soft, Engine::Kvm] {
            let name = name(engine);
            bar.set_message(format!("a tiny guest ({name})"));
            report.checks.push(tiny_guest::check(name, &site));
            let emulated = emulated && engine == Engine::Kvm;
            if emulated && !args.slow {
                let reason =
                    "this host's KVM emulates kernels, and a boot takes minutes; --slow does it nevertheless";
                report.checks.push(Check::skipped(name, "guest kernel", reason));
                continue;
            }
            let (kernel, initramfs) = match &guest {
                Ok(files) => files.clone(),
                Err(reason) => {
                    report.checks.push(Check::new(name, "guest kernel", Err(reason.clone())));
                    continue;
                }
            };
            bar.set_message(format!("the guest kernel ({name}): boot, checks, snapshot, restore"));
            let (cpus, patience) = match engine {
                Engine::Soft => (1, PATIENCE),
                _ => (2, if emulated { MUCH_PATIENCE } else { PATIENCE }),
            };
            let tap = tap.as_deref().map_err(String::as_str);
            let machine = LinuxGuest { engine: name, cpus, kernel, initramfs, tap, patience, site: &site };
            machine.examine(&mut report.checks);
        }
        if site.is_interrupted() {
            bar.finish_and_clear();
            bail!("interrupted; there is no report");
        }
    }
    bar.finish_and_clear();
    match args.format {
        Format::Json => println!("{:#}", report.to_json()),
        Format::Table => println!("{report}"),
    }
    Ok(if report.is_good() { Exit::Success } else { Exit::Code(1) })
}

fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Auto => "auto",
        Engine::Kvm => "kvm",
        Engine::Soft => "soft",
    }
}

/// The guest's kernel and initramfs.
fn find_guest(dir: Option<PathBuf>) -> Result<(PathBuf, PathBuf), String> {
    let dir =
        dir.or_else(guest::search).ok_or("not built; run `cargo xtask setup`, or name it by --guest-dir")?;
    Ok((dir.join(guest::KERNEL), dir.join(guest::INITRAMFS)))
}
