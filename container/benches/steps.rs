//! The steps of a start that only compute, each by itself, with the default configuration: `cargo bench -p container`.
//! What the kernel does for a start is in `docs/how-a-container-starts.md`; `cargo xtask container-bench` measures the whole.

use std::fs;
use std::hint::black_box;

use container::benchmarked::{compile_filter, last_exec_image, parse_config, plan};
use container::cgroup::Hierarchy;
use container::spec::default_spec;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// A host with cgroup v1, as it is seen in a mount namespace: the first thirteen mounts are the controllers'.
fn mountinfo() -> String {
    let controllers = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
    let v1 = controllers.iter().enumerate().map(|(index, name)| {
        format!(
            "{} 30 0:{} / /sys/fs/cgroup/{name} rw,nosuid - cgroup none rw,{name}\n",
            index + 40,
            index + 60
        )
    });
    let others =
        (0..20).map(|index| format!("{} 1 254:0 / /mnt/{index} rw - ext4 /dev/vda rw\n", index + 90));
    v1.chain(others).collect()
}

fn steps(criterion: &mut Criterion) {
    let spec = default_spec();
    let json = serde_json::to_vec(&spec).expect("the default configuration is JSON");
    criterion.bench_function("parse config.json", |bencher| {
        bencher.iter_batched(|| json.clone(), parse_config, BatchSize::SmallInput);
    });

    let bundle = parse_config(json).expect("the default configuration is right");
    criterion.bench_function("plan, with the filter", |bencher| bencher.iter(|| plan(black_box(&bundle))));

    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let profile = profile.expect("the default configuration has a profile");
    criterion.bench_function("compile the filter", |bencher| {
        bencher.iter(|| compile_filter(black_box(&profile)));
    });

    let filter = compile_filter(&profile).expect("the default profile compiles");
    criterion.bench_function("image of the last execution", |bencher| {
        bencher.iter(|| last_exec_image(black_box(&filter)));
    });
    // What reading a compiled filter from a cache would take at the least.
    let dir = tempfile::tempdir().expect("a directory");
    let cached = dir.path().join("filter");
    let image = last_exec_image(&filter).expect("the default filter is not too long");
    fs::write(&cached, image).expect("written");
    criterion.bench_function("read such an image from a file", |bencher| bencher.iter(|| fs::read(&cached)));

    fs::create_dir_all(dir.path().join("proc/self")).expect("made");
    fs::write(dir.path().join("proc/self/mountinfo"), mountinfo()).expect("written");
    criterion.bench_function("find the cgroup trees in mountinfo", |bencher| {
        bencher.iter(|| Hierarchy::detect(dir.path()));
    });
}

criterion_group!(benches, steps);
criterion_main!(benches);
