//! A scripted executor for tests, and a report made with it: a container that starts in about 30 ms and a VM that takes
//! about 16 s, with everything measured.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::calibrate::Calibration;
use crate::environment::{Environment, Fact, Kvm};
use crate::execute::{Event, ExecuteError, Executor, Observation};
use crate::memory::reconcile::reconcile;
use crate::memory::{CgroupMemory, GuestMemory, Memory, ProcessMemory, Role};
use crate::options::Options;
use crate::report::Report;
use crate::run::conduct;
use crate::size::Size;
use crate::statistics::generator::Generator;
use crate::subject::{Runtime, Subject};

const MIB: u64 = 1 << 20;
const MS: u64 = 1_000_000;

/// What a scripted subject does when it is started.
pub(crate) type Script = Box<dyn FnMut(&Subject, u64) -> Result<Observation, ExecuteError>>;

/// An executor whose clock moves by what its script says a start takes.
pub(crate) struct Scripted {
    pub clock_ns: u64,
    pub started: Vec<String>,
    pub script: Script,
    pub unprepared: HashMap<Runtime, String>,
}

impl Scripted {
    /// The executor of [`report`].
    pub(crate) fn new() -> Self {
        let mut generator = Generator::new(5);
        let script =
            move |subject: &Subject, spawn_ns| Ok(observation(subject.runtime, spawn_ns, &mut generator));
        Self {
            clock_ns: 1_000 * MS,
            started: Vec::new(),
            script: Box::new(script),
            unprepared: HashMap::new(),
        }
    }
}

impl Executor for Scripted {
    fn now_ns(&self) -> u64 {
        self.clock_ns
    }

    fn environment(&mut self) -> Environment {
        let fact = |(name, value): (&str, &str)| Fact { name: name.to_owned(), value: value.to_owned() };
        Environment {
            kvm: Kvm::NoHardware,
            facts: [("CPU", "A CPU"), ("kernel", "6.18.0"), ("clock source", "tsc")].map(fact).to_vec(),
            load_before: Some("0.10 0.20 0.30".to_owned()),
            load_after: None,
            doctor: None,
        }
    }

    fn load(&mut self) -> Option<String> {
        Some("1.10 0.40 0.30".to_owned())
    }

    fn prepare(&mut self, subject: &Subject) -> Result<Vec<String>, ExecuteError> {
        if let Some(message) = self.unprepared.get(&subject.runtime) {
            let status = "exit status: 1".to_owned();
            return Err(ExecuteError::Failed {
                command: "prepare".to_owned(),
                status,
                message: message.clone(),
            });
        }
        let vm: &[&str] = if subject.runtime == Runtime::Vm { &["--vm"] } else { &[] };
        let words = ["carve", "run"].iter().chain(vm).chain(&["--rm", "--name", "NAME", "demo"]);
        Ok(words.map(|word| (*word).to_owned()).collect())
    }

    fn calibrate(&mut self) -> Calibration {
        Calibration {
            n: 20,
            spawn_ms: Some(1.3),
            wrapped_spawn_ms: None,
            probe_ms: Some(0.21),
            event_ms: Some(0.08),
            command_ms: Some(2.4),
        }
    }

    fn sample(&mut self, subject: &Subject) -> Result<Observation, ExecuteError> {
        self.started.push(subject.id.clone());
        let observation = (self.script)(subject, self.clock_ns);
        self.clock_ns = match &observation {
            Ok(observation) => observation.ready_ns + 100 * MS,
            Err(_) => self.clock_ns + 10 * MS,
        };
        observation
    }
}

/// The report of a run with [`Scripted`], 30 samples each. Made once, as resampling takes its time.
pub(crate) fn report() -> Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(make_report).clone()
}

fn make_report() -> Report {
    let mut options = Options::new("carve".into(), "demo");
    options.seed = 7;
    options.memory = Some("128m".to_owned());
    let mut report = conduct(&options, &mut Scripted::new(), &mut ()).expect("the script does not fail");
    report.begun_unix_s = 1_735_689_599;
    report
}

/// An instance that is ready after its time, give or take some.
pub(crate) fn observation(runtime: Runtime, spawn_ns: u64, generator: &mut Generator) -> Observation {
    let (steps, mean_ms): (&[(&str, f64)], f64) = match runtime {
        Runtime::Vm => (
            &[
                ("cli.start", 2.0),
                ("image.resolved", 3.0),
                ("monitor.start", 5.0),
                ("network.ready", 9.0),
                ("rootfs.ready", 15.0),
                ("vmm.kvm_opened", 16.0),
                ("vmm.memory_mapped", 16.5),
                ("vmm.kernel_loaded", 19.0),
                ("vmm.first_run", 20.0),
                ("guest.agent_ready", 14_900.0),
                ("app.started", 15_300.0),
            ],
            15_800.0,
        ),
        Runtime::Container | Runtime::Crun => (
            &[
                ("cli.start", 2.0),
                ("image.resolved", 3.0),
                ("monitor.start", 5.0),
                ("network.ready", 12.0),
                ("rootfs.ready", 14.0),
                ("cgroup.ready", 15.0),
                ("init.created", 18.0),
                ("app.started", 20.0),
            ],
            31.0,
        ),
    };
    let wobble = 0.95 + generator.below(1000) as f64 / 10_000.0;
    let at = |ms: f64| spawn_ns + format!("{:.0}", ms * wobble * 1e6).parse::<u64>().expect("a whole number");
    let size = Size {
        wire_bytes: Some(3 * MIB),
        shared_bytes: Some(5 * MIB),
        own_bytes: Some(if runtime == Runtime::Vm { 300 << 10 } else { 12 << 10 }),
        guest_bytes: (runtime == Runtime::Vm).then_some(14 * MIB),
    };
    Observation {
        spawn_ns,
        ready_ns: at(mean_ms),
        reply: b"hello from the demo".to_vec(),
        events: steps.iter().map(|(event, ms)| Event { event: (*event).to_owned(), ns: at(*ms) }).collect(),
        probe_attempts: Some(6),
        memory: Some(if runtime == Runtime::Vm { vm_memory() } else { container_memory() }),
        size: Some(size),
        digest: Some("sha256:0123456789abcdef".to_owned()),
        stop_ms: Some(12.0),
        left_behind: Vec::new(),
    }
}

fn process(name: &str, role: Role, pss_bytes: u64, guest_ram_bytes: Option<u64>) -> ProcessMemory {
    let in_cgroup = Some(role != Role::Command);
    ProcessMemory { pid: 100, name: name.to_owned(), role, pss_bytes, guest_ram_bytes, in_cgroup }
}

fn memory(
    processes: Vec<ProcessMemory>,
    cgroup: CgroupMemory,
    guest: Option<GuestMemory>,
    cpu_ns: u64,
) -> Memory {
    Memory {
        process_bytes: processes.iter().map(|p| p.pss_bytes).sum(),
        guest_ram_bytes: processes.iter().find_map(|p| p.guest_ram_bytes),
        reconciliation: Some(reconcile(&cgroup, &processes)),
        processes,
        cgroup: Some(cgroup),
        guest,
        cpu_ns: Some(cpu_ns),
    }
}

fn container_memory() -> Memory {
    let processes = vec![
        process("carve", Role::Command, 700 << 10, None),
        process("carve", Role::Monitor, 900 << 10, None),
        process("httpd", Role::App, 600 << 10, None),
    ];
    let cgroup = CgroupMemory {
        total: 2 * MIB,
        anon: Some(400 << 10),
        file: Some(900 << 10),
        shmem: Some(0),
        mapped: Some(600 << 10),
        kernel: Some(300 << 10),
        ..CgroupMemory::default()
    };
    memory(processes, cgroup, None, 24 * MS)
}

fn vm_memory() -> Memory {
    let ram = 31 * MIB;
    let processes = vec![
        process("carve", Role::Command, 700 << 10, None),
        process("carve", Role::Vmm, 3 * MIB + ram, Some(ram)),
    ];
    let cgroup = CgroupMemory {
        total: 35 * MIB,
        anon: Some(2 * MIB),
        file: Some(0),
        shmem: Some(ram),
        mapped: Some(ram),
        kernel: Some(MIB),
        ..CgroupMemory::default()
    };
    let guest = GuestMemory {
        total: 110 * MIB,
        free: 94 * MIB,
        page_cache: 4 * MIB,
        anon: 2 * MIB,
        kernel: 7 * MIB,
        agent: MIB,
    };
    memory(processes, cgroup, Some(guest), 15_500 * MS)
}
