//! What NVRTC makes of the kernels, where it is installed.

use super::*;

/// Plans at the sizes that matter, for the compiler.
fn large_plans() -> Vec<(&'static str, Plan<f32>)> {
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    Vec::from([
        ("classic 1024", Plan::new(1024, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 4096", Plan::new(4096, &Butterfly::classic(2), Givens).unwrap()),
        ("boft 4, 8 of 4096", plan(4096, &Butterfly::boft(4, 8).unwrap())),
        ("boft 4, 4 of 4096", plan(4096, &Butterfly::boft(4, 4).unwrap())),
        ("boft 2, 32 of 4096", plan(4096, &Butterfly::boft(2, 32).unwrap())),
        ("blocks of 16 of 768", plan(768, &BlockDiagonal::new(16))),
        ("any 1000", plan(1000, &AnyButterfly::new(2))),
        ("random 1000", plan(1000, &RandomShuffle { block: 4, stages: 3, seed: 7 })),
    ])
}

/// Registers, bytes that spilled, from what `ptxas -v` says.
fn registers(log: &str) -> (usize, usize) {
    let before = |what: &str| {
        let text = &log[..log.find(what).unwrap_or(0)];
        text.split_whitespace().next_back().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX)
    };
    (before(" registers"), before(" bytes spill stores"))
}

#[test]
fn kernels_compile_for_gpus() {
    if let Err(error) = driver::check(driver::Library::Compiler) {
        println!("skipped: kernels are not compiled for GPUs: {error}");
        return;
    }
    let shared = 227 << 10;
    println!("| kernel | stored | threads | bytes of shared memory | registers, bytes spilled |");
    for (name, plan) in large_plans() {
        let schedule = Schedule::new(&plan, 8).unwrap();
        let passes: Vec<_> = schedule.passes.iter().map(|p| (p.window, p.stages.len())).collect();
        println!("{name}: windows and stages {passes:?}, swizzle {:?}", schedule.swizzle);
        let rows = Rows { batch: 1 << 16, stride: plan.n(), aligned: true };
        let wanted = Wanted { from_input: false, gx: true, gradient: true };
        for stored in [Stored::F32, Stored::Bf16] {
            let tile = verbs::tile(&schedule, shared, 1).unwrap();
            let apply = verbs::apply(&schedule, tile, stored, stored == Stored::F16, rows, rows).unwrap();
            let mut calls = Vec::from([apply]);
            if let (true, Ok(tile)) = (stored != Stored::F16, verbs::tile(&schedule, shared, 2)) {
                calls.extend(verbs::vjp(&schedule, tile, stored, false, wanted, [rows; 3]));
            }
            for call in calls {
                let found = ["sm_90"].map(|architecture| {
                    let text = &call.program.source;
                    // To be read, or compiled by hand.
                    if let Some(folder) = std::env::var_os("PAPILIO_KERNELS") {
                        let file =
                            std::format!("{} {name} {stored:?}.cu", call.program.kernel).replace([' ', ','], "_");
                        std::fs::write(std::path::Path::new(&folder).join(file), text).unwrap();
                    }
                    let (image, log) = driver::compile(text, architecture, &["--ptxas-options=-v"]).unwrap();
                    assert!(!image.is_empty());
                    registers(&log)
                });
                let Call { threads, shared, .. } = call;
                println!("{} {stored:?} {threads} {shared} {found:?}", call.program.kernel);
            }
        }
    }
}
