//! What NVRTC makes of the kernels, where it is installed.

use super::blocks::plans_of_charts;
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
        ("boft 2, 16 of 4096", plan(4096, &Butterfly::boft(2, 16).unwrap())),
        ("boft 2, 64 of 4096", plan(4096, &Butterfly::boft(2, 64).unwrap())),
        ("one block of 100", plan(100, &BlockDiagonal::new(100))),
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

/// Compiles a call's kernel, and prints what it takes; so many bytes may spill.
fn compile(name: &str, call: &Call, architecture: &str, most: usize) {
    let Call { program, threads, shared, .. } = call;
    // To be read, or compiled by hand.
    if let Some(folder) = std::env::var_os("PAPILIO_KERNELS") {
        let file = std::format!("{} {name}.cu", program.kernel).replace([' ', ','], "_");
        std::fs::write(std::path::Path::new(&folder).join(file), &program.source).unwrap();
    }
    let (image, log) = driver::compile(&program.source, architecture, &["--ptxas-options=-v"]).unwrap();
    assert!(!image.is_empty());
    let (registers, spilled) = registers(&log);
    println!("| {name}, {} | {threads} | {shared} | {:?} |", program.kernel, (registers, spilled));
    assert!(spilled <= most, "{name}, {}: {spilled} bytes do not fit registers", program.kernel);
}

fn has_compiler() -> bool {
    let found = driver::check(driver::Library::Compiler);
    if let Err(error) = &found {
        println!("skipped: kernels are not compiled for GPUs: {error}");
    }
    found.is_ok()
}

#[test]
fn kernels_on_tiles_compile_for_gpus() {
    if !has_compiler() {
        return;
    }
    let shared = 227 << 10;
    println!("| kernel | threads | bytes of shared memory | registers, bytes spilled |");
    for (name, plan) in large_plans() {
        let [schedule, back] = tile::windows(&plan).map(|window| Schedule::new(&plan, window).unwrap());
        let passes: Vec<_> = schedule.passes.iter().map(|p| (p.window, p.stages.len())).collect();
        println!("{name}: windows and stages {passes:?}, swizzle {:?}", schedule.swizzle);
        let rows = Rows { batch: 1 << 16, stride: plan.n(), aligned: true };
        let wanted = Wanted { from_input: false, gx: true };
        for stored in [Stored::F32, Stored::Bf16] {
            let tile = tile::tile(&schedule, shared, stored).unwrap();
            let apply = verbs::apply(&schedule, tile, stored, false, rows, rows).unwrap();
            compile(&std::format!("{name}, {stored:?}"), &apply, "sm_90", 160);
        }
        let tile = tile::gradient_tile(&back, shared).unwrap();
        for from_input in [false, true] {
            let wanted = Wanted { from_input, ..wanted };
            let name = std::format!("{name}, F32{}", if from_input { ", from x" } else { "" });
            for call in verbs::vjp(&back, tile, Stored::F32, false, wanted, 132, [rows; 3]) {
                compile(&name, &call, "sm_90", 160);
            }
        }
    }
}

/// Large blocks of half precision, whose vectors stay in registers: at most some words of entries spill.
#[test]
fn kernels_in_registers_compile_for_gpus() {
    if !has_compiler() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    for (name, plan) in [
        ("boft 2, 16 of 4096", plan(4096, &Butterfly::boft(2, 16).unwrap())),
        ("boft 4, 16 of 4096", plan(4096, &Butterfly::boft(4, 16).unwrap())),
        ("boft 2, 32 of 4096", plan(4096, &Butterfly::boft(2, 32).unwrap())),
        ("boft 3, 32 of 4096", plan(4096, &Butterfly::boft(3, 32).unwrap())),
        ("boft 4, 32 of 4096", plan(4096, &Butterfly::boft(4, 32).unwrap())),
        ("boft 2, 64 of 4096", plan(4096, &Butterfly::boft(2, 64).unwrap())),
        ("blocks of 32 of 4096", plan(4096, &BlockDiagonal::new(32))),
        ("blocks of 48 of 768", plan(768, &BlockDiagonal::new(48))),
        ("blocks of 64 of 4096", plan(4096, &BlockDiagonal::new(64))),
    ] {
        let schedule = Schedule::new(&plan, 8).unwrap();
        let tile = tile::tile(&schedule, 227 << 10, Stored::Bf16).unwrap();
        for (stored, transposed, aligned) in [
            (Stored::Bf16, false, true),
            (Stored::Bf16, true, true),
            (Stored::F16, false, true),
            (Stored::F16, true, false),
        ] {
            let rows = Rows { batch: 1 << 16, stride: plan.n(), aligned };
            let call = verbs::apply(&schedule, tile, stored, transposed, rows, rows).unwrap();
            let name = std::format!(
                "{name}, {stored:?}{}{}",
                if transposed { ", transposed" } else { "" },
                if aligned { "" } else { ", unaligned" }
            );
            compile(&name, &call, "sm_90", 160);
        }
    }
}

/// And their gradients.
#[test]
fn gradients_in_registers_compile_for_gpus() {
    if !has_compiler() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    for (name, plan) in [
        ("boft 2, 16 of 4096", plan(4096, &Butterfly::boft(2, 16).unwrap())),
        ("boft 3, 16 of 4096", plan(4096, &Butterfly::boft(3, 16).unwrap())),
        ("boft 2, 32 of 4096", plan(4096, &Butterfly::boft(2, 32).unwrap())),
        ("blocks of 32 of 4096", plan(4096, &BlockDiagonal::new(32))),
        ("blocks of 64 of 4096", plan(4096, &BlockDiagonal::new(64))),
    ] {
        let schedule = Schedule::new(&plan, 8).unwrap();
        let tile = tile::gradient_tile(&schedule, 227 << 10).unwrap();
        for (stored, transposed, aligned, from_input) in [
            (Stored::Bf16, false, true, false),
            (Stored::Bf16, true, true, true),
            (Stored::F16, false, true, true),
            (Stored::F16, true, false, false),
        ] {
            let rows = Rows { batch: 1 << 16, stride: plan.n(), aligned };
            let wanted = Wanted { from_input, gx: true };
            let call = &verbs::vjp(&schedule, tile, stored, transposed, wanted, 132, [rows; 3])[0];
            let name = std::format!(
                "{name}, {stored:?}{}{}{}",
                if from_input { ", from x" } else { "" },
                if transposed { ", transposed" } else { "" },
                if aligned { "" } else { ", unaligned" }
            );
            // Beside them are the sums of all blocks: up to 128 numbers.
            compile(&name, call, "sm_90", 384);
        }
    }
}

/// And for the oldest GPUs that are served: one of each kind, unaligned, transposed, half precision, computed again.
#[test]
fn other_kernels_compile_for_gpus() {
    if !has_compiler() {
        return;
    }
    let mut seen = std::collections::HashSet::new();
    for (name, plan) in plans_of_charts() {
        let schedule = Schedule::new(&plan, 8).unwrap();
        let blocks = Blocks::new(&plan).unwrap();
        let gathers = [verbs::gather(&schedule), verbs::gather_wide(&schedule), verbs::angles(&schedule)];
        for call in blocks.realize().iter().chain(&blocks.realize_vjp()).chain(gathers.iter().flatten()) {
            if seen.insert(call.program.clone()) {
                compile(name, call, "sm_80", 160);
            }
        }
    }
    let plan = Plan::new(96, &BlockDiagonal::new(32), CayleyNeumann { order: 3 }).unwrap();
    let schedule = Schedule::new(&plan, 1).unwrap();
    let rows = Rows { batch: 100, stride: 97, aligned: false };
    let (one, two) =
        (tile::tile(&schedule, 99 << 10, Stored::F32).unwrap(), tile::gradient_tile(&schedule, 99 << 10).unwrap());
    let wanted = Wanted { from_input: true, gx: false };
    let blocks = Plan::new(64, &Butterfly::boft(2, 16).unwrap(), Cayley).unwrap();
    let in_registers = Schedule::new(&blocks, 8).unwrap();
    let mut calls = verbs::vjp(&schedule, two, Stored::F16, true, wanted, 132, [rows; 3]);
    calls.extend(verbs::apply(&schedule, one, Stored::F16, true, rows, rows));
    calls.extend(verbs::pack(&schedule));
    calls.extend([Stored::F32, Stored::Bf16, Stored::F16].map(|stored| verbs::identity(96, stored)));
    for n in [1, 128, 1000] {
        let (turn, _) = random::drawn(n, 1, 3);
        let tile = random::tile(&turn, 99 << 10).unwrap();
        calls.extend([false, true].iter().filter_map(|back| random::call(&turn, tile, Stored::F16, *back, rows)));
    }
    let rows = Rows { batch: 100, stride: 64, aligned: true };
    calls.extend(verbs::apply(&in_registers, one, Stored::F16, true, rows, rows));
    calls.extend(verbs::pack(&in_registers));
    calls.iter().for_each(|call| compile("others", call, "sm_80", 160));
}
