//! Kernels on the CPU against the CPU's kernels, bit for bit where both do the same arithmetic.

use std::println;
use std::vec::Vec;

use super::Precision;
use super::call::Call;
use super::driver;
use super::emulation::{self, Memory};
use super::estimate::{self, Speeds};
use super::program::{Stored, Tile, Wanted};
use super::random;
use super::schedule::{self, NONE, Schedule};
use super::verbs::{self, Rows};
use half::{bf16, f16};

use super::blocks::Blocks;
use super::buffer::{self, Number};
use crate::layout::{Sharing, StageLayout};
use crate::parametrization::{Cayley, CayleyNeumann, Exponential, Givens};
use crate::plan::{Factors, Op, Plan, Saved, Source, Workspace};
use crate::random::{Direction, RandomRotation};
use crate::topology::{AnyButterfly, BlockDiagonal, Butterfly, Monarch, RandomShuffle};
use crate::{Batch, BatchMut, Parallelism};

fn theta(plan: &Plan<f32>) -> Vec<f32> {
    (0..plan.num_params()).map(|i| (1.7 * i as f32 + 0.3).sin() * 0.8).collect()
}

fn vectors(n: usize, batch: usize) -> Vec<f32> {
    (0..n * batch).map(|i| ((i * i) as f32 * 0.37 + i as f32).sin()).collect()
}

fn numbers(schedule: &Schedule, factors: &Factors<f32>) -> Vec<f32> {
    let of = |at: &u32| if *at == NONE { f32::NAN } else { factors.entries()[*at as usize] };
    schedule.numbers.iter().map(of).collect()
}

/// Plans of every kind: what a window can be, sizes that do not divide, tables, sharing, partial stages, adjoints.
fn plans() -> Vec<(&'static str, Plan<f32>)> {
    let shared = |b, count| {
        let source = Source::Chart { chart: std::sync::Arc::new(Cayley), sharing: Sharing::All };
        [(StageLayout::contiguous(b, count), source)]
    };
    let table = StageLayout::Table { block: 3, index: [9, 1, 4, 0, 7, 2].into() };
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    Vec::from([
        ("classic 64", Plan::new(64, &Butterfly::classic(2), Givens).unwrap()),
        ("classic 256, exponential", Plan::new(256, &Butterfly::classic(2), Exponential).unwrap()),
        ("classic 2", Plan::new(2, &Butterfly::classic(2), Givens).unwrap()),
        ("identity 5", Plan::identity(5).unwrap()),
        ("boft 4, 8", plan(128, &Butterfly::boft(4, 8).unwrap())),
        ("boft 3, 4", plan(48, &Butterfly::boft(3, 4).unwrap())),
        ("boft 3, 4 of 320", plan(320, &Butterfly::boft(3, 4).unwrap())),
        ("radix 4", plan(64, &Butterfly::classic(4))),
        ("blocks of 16", plan(48, &BlockDiagonal::new(16))),
        ("blocks of 10", plan(50, &BlockDiagonal::new(10))),
        ("boft 2, 32", plan(128, &Butterfly::boft(2, 32).unwrap())),
        ("one block of 13", plan(13, &BlockDiagonal::new(13))),
        ("any 37", plan(37, &AnyButterfly::new(4))),
        ("any 30", plan(30, &AnyButterfly::new(2))),
        ("monarch 36", plan(36, &Monarch::new(6))),
        ("random 40", plan(40, &RandomShuffle { block: 4, stages: 3, seed: 7 })),
        ("shared", Plan::from_stages(24, shared(4, 6)).unwrap()),
        ("partial table", Plan::from_stages(11, [(table, Source::chart(Cayley))]).unwrap()),
        (
            "there and back",
            plan(32, &Butterfly::boft(2, 4).unwrap()).then(plan(32, &Butterfly::classic(2)).adjoint()).unwrap(),
        ),
    ])
}

fn emulated(
    plan: &Plan<f32>,
    factors: &Factors<f32>,
    window: usize,
    tile: Option<Tile>,
    op: Op,
    x: &[f32],
    stride: usize,
    batch: usize,
) -> Vec<f32> {
    let schedule = Schedule::new(plan, window).unwrap();
    let tile = tile.unwrap_or_else(|| verbs::tile(&schedule, 100 << 10, 1).unwrap());
    let rows = Rows { batch, stride, aligned: stride % 4 == 0 };
    let mut memory = Memory::default()
        .with("x", x)
        .with("y", &std::vec![f32::NAN; x.len()])
        .with("numbers", &numbers(&schedule, factors))
        .with("packed", &[0u32; 0])
        .with("index", &schedule.index);
    if let Some(call) = verbs::apply(&schedule, tile, Stored::F32, op == Op::Adjoint, rows, rows) {
        memory.run(&call);
    }
    memory.get("y")
}

fn on_cpu(plan: &Plan<f32>, factors: &Factors<f32>, op: Op, x: &[f32]) -> Vec<f32> {
    let mut y = std::vec![f32::NAN; x.len()];
    let (input, output) = (Batch::rows(x, plan.n()).unwrap(), BatchMut::rows(&mut y, plan.n()).unwrap());
    plan.apply(factors, input, output, op, Parallelism::None, &mut Workspace::new()).unwrap();
    y
}

/// Whether this CPU's kernels fuse, as the device does.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn apply_has_the_bits_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    for (name, plan) in plans() {
        let factors = plan.realize(&theta(&plan)).unwrap();
        for (window, batch, op) in [(8, 9, Op::None), (if plan.n() % 3 == 0 { 16 } else { 1 }, 3, Op::Adjoint)] {
            let x = vectors(plan.n(), batch);
            let y = emulated(&plan, &factors, window, None, op, &x, plan.n(), batch);
            let expected = on_cpu(&plan, &factors, op, &x);
            assert!(same(&y, &expected), "{name}, windows of {window}, {op:?}:\n{y:?}\n{expected:?}");
        }
        println!(
            "{name}: {:?}",
            Schedule::new(&plan, 8).unwrap().passes.iter().map(|p| (p.window, p.stages.len())).collect::<Vec<_>>()
        );
    }
}

/// ∂x and ∂factors by the emulated kernels.
fn emulated_vjp(
    plan: &Plan<f32>,
    factors: &Factors<f32>,
    saved: &[f32],
    wanted: Wanted,
    transposed: bool,
    gy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (n, batch) = (plan.n(), gy.len() / plan.n());
    let schedule = Schedule::new(plan, if plan.is_exact() { 8 } else { 1 }).unwrap();
    let tile = verbs::tile(&schedule, 100 << 10, 2).unwrap();
    let rows = Rows { batch, stride: n, aligned: n % 4 == 0 };
    let size = schedule.numbers.len();
    let slots = std::vec![f32::NAN; verbs::scratch(&schedule, tile, batch) - size];
    let mut memory = Memory::default()
        .with("saved", saved)
        .with("gy", gy)
        .with("gx", &std::vec![f32::NAN; gy.len()])
        .with("numbers", &numbers(&schedule, factors))
        .with("index", &schedule.index)
        .with("starts", &schedule.starts)
        .with("places", &schedule.places)
        .with("slots", &slots)
        .with("sums", &std::vec![f32::NAN; size])
        .with("d_factors", &std::vec![0.5f32; plan.num_entries()]);
    for call in verbs::vjp(&schedule, tile, Stored::F32, transposed, wanted, [rows; 3]) {
        memory.run(&call);
    }
    (memory.get("gx"), memory.get("d_factors"))
}

/// The part of gradients that rotations can feel; it began as halves.
fn project(plan: &Plan<f32>, d: &mut [f32]) {
    for stage in plan.stages().iter().filter(|stage| schedule::is_rotation(stage)) {
        for g in 0..stage.num_groups() {
            let at = |i, k| stage.entry(g, i, k);
            let [a, b, c, e] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            let (p, q) = (d[a] - 0.5 + (d[e] - 0.5), d[c] - d[b]);
            (d[a], d[b], d[c], d[e]) = (0.5 + 0.5 * p, 0.5 - 0.5 * q, 0.5 + 0.5 * q, 0.5 + 0.5 * p);
        }
    }
}

/// The largest difference in units of eps times the largest number.
fn ratio(a: &[f32], b: &[f32]) -> f32 {
    let size = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let miss = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m: f32, d| if d <= m { m } else { d });
    if miss == 0.0 { 0.0 } else { miss / (size * f32::EPSILON) }
}

#[test]
fn gradients_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut all = plans();
    let neumann = Plan::new(48, &Butterfly::boft(2, 8).unwrap(), CayleyNeumann { order: 3 });
    all.push(("not orthogonal", neumann.unwrap()));
    let mut worst = 0.0f32;
    for (name, plan) in all {
        let factors = plan.realize(&theta(&plan)).unwrap();
        for (batch, op, from_input) in [(11, Op::Adjoint, true), (140, Op::None, false)] {
            if !from_input && !plan.is_exact() {
                continue;
            }
            let x = vectors(plan.n(), batch);
            let y = on_cpu(&plan, &factors, op, &x);
            let gy: Vec<f32> = x.iter().map(|x| (3.0 * x + 0.2).cos()).collect();
            let saved = if from_input { &x } else { &y };
            let wanted = Wanted { from_input, gx: true, gradient: true };
            let (gx, d) = emulated_vjp(&plan, &factors, saved, wanted, op == Op::Adjoint, &gy);
            let n = plan.n();
            let (mut cpu_gx, mut cpu_d) = (std::vec![f32::NAN; x.len()], std::vec![0.5f32; plan.num_entries()]);
            let rows = |x| Batch::rows(x, n).unwrap();
            let from = if from_input { Saved::Input(rows(&x[..])) } else { Saved::Output(rows(&y[..])) };
            let (to, d_to) = (BatchMut::rows(&mut cpu_gx, n).unwrap(), Some(&mut cpu_d[..]));
            let workspace = &mut Workspace::new();
            plan.apply_vjp(&factors, from, op, rows(&gy[..]), Some(to), d_to, Parallelism::None, workspace).unwrap();
            assert!(same(&gx, &cpu_gx), "{name}, {op:?}:\n{gx:?}\n{cpu_gx:?}");
            project(&plan, &mut cpu_d);
            let miss = ratio(&d, &cpu_d);
            assert!(miss <= 4.0, "{name}, {op:?}, {batch}: {miss} eps");
            worst = worst.max(miss);
        }
    }
    println!("gradients of entries: {worst} eps");
}

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

/// Vectors of a stored type one every `stride` numbers, through the emulated kernel and through the CPU's.
fn stored_batches<E: Number + bytemuck::Pod>(
    plan: &Plan<f32>,
    in_place: bool,
    aligned: bool,
    batch: usize,
    stride: usize,
) {
    let factors = plan.realize(&theta(plan)).unwrap();
    let n = plan.n();
    let x: Vec<E> = vectors(stride, batch).iter().map(|x| E::store(*x)).collect();
    let schedule = Schedule::new(plan, 8).unwrap();
    let tile = verbs::tile(&schedule, 100 << 10, 1).unwrap();
    let rows = Rows { batch, stride, aligned };
    let filled = std::vec![E::store(7.0); x.len()];
    let mut memory = Memory::default()
        .with("x", &x)
        .with("y", &filled)
        .with("numbers", &numbers(&schedule, &factors))
        .with("packed", &[0u32; 0])
        .with("index", &schedule.index);
    let mut call = verbs::apply(&schedule, tile, buffer::stored::<E>(), false, rows, rows).unwrap();
    if in_place {
        call.arguments[2] = call.arguments[0].clone();
    }
    memory.run(&call);
    let y: Vec<E> = memory.get(if in_place { "x" } else { "y" });
    let mut expected = if in_place { x.clone() } else { filled };
    let input = Batch::strided(&x, batch, n, stride, 1).unwrap();
    let output = BatchMut::strided(&mut expected, batch, n, stride, 1).unwrap();
    plan.apply(&factors, input, output, Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
    let bits = |y: &[E]| bytemuck::cast_slice::<E, u8>(y).to_vec();
    assert!(bits(&y) == bits(&expected), "{} {batch} {stride}:\n{y:?}\n{expected:?}", core::any::type_name::<E>());
}

#[test]
fn stored_types_and_strides() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n| Plan::<f32>::new(n, &AnyButterfly::new(2), Givens).unwrap();
    for (in_place, aligned, n, batch, stride) in
        [(false, true, 64, 6, 64), (true, true, 64, 9, 72), (false, false, 61, 5, 61), (true, false, 61, 1, 63)]
    {
        stored_batches::<f32>(&plan(n), in_place, aligned, batch, stride);
        stored_batches::<bf16>(&plan(n), in_place, aligned, batch, stride);
        stored_batches::<f16>(&plan(n), in_place, aligned, batch, stride);
    }
}

/// Tiles of every shape, also those that only large vectors or a device with other sizes would get; more blocks than tiles.
#[test]
fn every_tile_gives_the_same_bits() {
    if !emulation::is_there() {
        return;
    }
    let plan = Plan::<f32>::new(64, &Butterfly::boft(2, 16).unwrap(), Cayley).unwrap();
    let pairs = Plan::<f32>::new(64, &Butterfly::classic(2), Givens).unwrap();
    for plan in [plan, pairs] {
        let factors = plan.realize(&theta(&plan)).unwrap();
        let x = vectors(64, 13);
        let expected = on_cpu(&plan, &factors, Op::None, &x);
        for (chunk, planes, together, threads) in
            [(1, 1, 1, 32), (2, 3, 1, 64), (4, 4, 2, 32), (4, 2, 2, 96), (2, 2, 1, 256)]
        {
            let tile = Some(Tile { chunk, planes, together, threads });
            let y = emulated(&plan, &factors, 8, tile, Op::None, &x, 64, 13);
            assert!(same(&y, &expected), "{tile:?}");
        }
    }
}

/// What is not finite stays in its vector, and stays what it is.
#[test]
fn infinities_and_nans_stay_in_their_vectors() {
    if !emulation::is_there() {
        return;
    }
    let plan = Plan::<f32>::new(16, &Butterfly::classic(2), Givens).unwrap();
    let factors = plan.realize(&theta(&plan)).unwrap();
    let mut x = vectors(16, 3);
    x[16 + 5] = f32::INFINITY;
    let y = emulated(&plan, &factors, 8, None, Op::None, &x, 16, 3);
    let expected = on_cpu(&plan, &factors, Op::None, &x);
    assert!(same(&y[..16], &expected[..16]) && same(&y[32..], &expected[32..]));
    assert!(y[16..32].iter().all(|y| !y.is_finite()));
}

/// θ, the emulated blocks in double precision and as numbers of windows, and whether the host has to make them.
fn emulated_realize(plan: &Plan<f32>, theta: &[f32]) -> (Memory, Schedule, Blocks) {
    let schedule = Schedule::new(plan, 8).unwrap();
    let blocks = Blocks::new(plan, &schedule).unwrap();
    let wide = blocks.fixed.clone().unwrap_or_else(|| std::vec![f64::NAN; plan.num_entries()]);
    let mut memory = Memory::default()
        .with("theta", theta)
        .with("wide", &wide)
        .with("wide_source", &blocks.source)
        .with("entry", &blocks.entry)
        .with("numbers", &std::vec![f32::NAN; schedule.numbers.len()])
        .with("status", &[0i32]);
    for call in blocks.realize() {
        memory.run(&call);
    }
    (memory, schedule, blocks)
}

fn plans_of_charts() -> Vec<(&'static str, Plan<f32>)> {
    let fixed = Source::Fixed([0.6, -0.8, 0.8, 0.6].repeat(12).into());
    let fixed = Plan::from_stages(24, [(StageLayout::contiguous(2, 12), fixed)]).unwrap();
    let cayley = Plan::new(24, &BlockDiagonal::new(3), Cayley).unwrap();
    Vec::from([
        ("Givens", Plan::new(64, &Butterfly::classic(2), Givens).unwrap()),
        ("Cayley 2", Plan::new(64, &Butterfly::classic(2), Cayley).unwrap()),
        ("Exponential 2", Plan::new(64, &Butterfly::classic(2), Exponential).unwrap()),
        ("Exponential 3", Plan::new(24, &BlockDiagonal::new(3), Exponential).unwrap()),
        ("Exponential 4", Plan::new(64, &Butterfly::boft(2, 4).unwrap(), Exponential).unwrap()),
        ("Cayley 4", Plan::new(64, &Butterfly::boft(2, 4).unwrap(), Cayley).unwrap()),
        ("Cayley 8", Plan::new(64, &Butterfly::boft(2, 8).unwrap(), Cayley).unwrap()),
        ("Cayley 13", Plan::new(39, &BlockDiagonal::new(13), Cayley).unwrap()),
        ("Cayley 32", Plan::new(64, &BlockDiagonal::new(32), Cayley).unwrap()),
        ("fixed and Cayley 3", fixed.then(cayley).unwrap()),
    ])
}

#[test]
fn blocks_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut worst = 0.0f32;
    for (name, plan) in plans_of_charts() {
        for scale in [0.0, 1.0, 20.0] {
            let theta: Vec<f32> = theta(&plan).iter().map(|t| t * scale).collect();
            let (memory, schedule, _) = emulated_realize(&plan, &theta);
            assert_eq!(memory.get::<i32>("status"), [0], "{name}");
            let found: Vec<f32> = memory.get("numbers");
            let expected = numbers(&schedule, &plan.realize(&theta).unwrap());
            for (found, expected) in found.iter().zip(&expected).filter(|(_, expected)| !expected.is_nan()) {
                let miss = (found - expected).abs() / f32::EPSILON;
                assert!(
                    miss <= 0.5 && (scale > 0.0 || found == expected),
                    "{name}: {found} and {expected}, {miss} eps"
                );
                worst = worst.max(miss);
            }
        }
        if plan.num_params() > 0 {
            let mut theta = theta(&plan);
            theta[plan.num_params() - 1] = f32::NAN;
            assert_eq!(emulated_realize(&plan, &theta).0.get::<i32>("status"), [1], "{name}");
        }
    }
    println!("entries of blocks: {worst} eps");
}

#[test]
fn gradients_of_blocks_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut worst = 0.0f32;
    for (name, plan) in plans_of_charts() {
        let theta = theta(&plan);
        let (memory, _, blocks) = emulated_realize(&plan, &theta);
        let d: Vec<f32> = (0..plan.num_entries()).map(|e| (e as f32 * 1.3 + 0.4).cos()).collect();
        let mut memory = memory.with("d_factors", &d).with("d_theta", &std::vec![0.25f32; plan.num_params()]);
        for call in blocks.realize_vjp() {
            memory.run(&call);
        }
        let mut expected = std::vec![0.25f32; plan.num_params()];
        plan.realize_vjp(&theta, &plan.realize(&theta).unwrap(), &d, &mut expected).unwrap();
        let miss = ratio(&memory.get::<f32>("d_theta"), &expected);
        assert!(miss <= 1.0, "{name}: {miss} eps");
        worst = worst.max(miss);
    }
    println!("gradients of parameters: {worst} eps");
}

#[test]
fn random_rotations_have_the_bits_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    for (n, batch, rounds, stride) in [
        (1, 3, 3, 1),
        (2, 2, 3, 2),
        (13, 5, 3, 15),
        (96, 7, 3, 96),
        (128, 9, 4, 128),
        (300, 5, 3, 300),
        (768, 6, 3, 768),
    ] {
        let rotation = RandomRotation::<f32>::with_rounds(n, 42, rounds).unwrap();
        let (turn, data) = random::drawn(n, 42, rounds);
        let tile = random::tile(&turn, 100 << 10).unwrap();
        let x = vectors(stride, batch);
        let rows = Rows { batch, stride, aligned: stride % 4 == 0 };
        let mut memory = Memory::default().with("x", &x).with("data", &data);
        let mut expected = x.clone();
        let workspace = &mut Workspace::new();
        for (back, direction) in [(false, Direction::Forward), (true, Direction::Inverse)] {
            memory.run(&random::call(&turn, tile, Stored::F32, back, rows).unwrap());
            let view = BatchMut::strided(&mut expected, batch, n, stride, 1).unwrap();
            rotation.apply_batch(view, direction, Parallelism::None, workspace).unwrap();
            assert!(same(&memory.get::<f32>("x"), &expected), "n = {n}, {direction:?}");
        }
    }
}

/// On an H100 by its data sheet: dense for one block that is the matrix, structured for what moves hardly more than x and y.
#[test]
fn the_model_prefers_what_is_less_work() {
    let speeds = Speeds { memory: 3.35e12, cycles: 132.0 * 1.7e9, tensor: 2048.0 };
    let of = |plan: &Plan<f32>, stored, batch, precision| {
        let schedule = Schedule::new(plan, 8).unwrap();
        let tile = verbs::tile(&schedule, 227 << 10, 1).unwrap();
        estimate::estimate(&schedule, tile, speeds, stored, batch, precision)
    };
    let butterfly = Plan::new(4096, &Butterfly::classic(2), Givens).unwrap();
    let one = Plan::new(128, &BlockDiagonal::new(128), Cayley).unwrap();
    for batch in [1, 65536] {
        let model = of(&butterfly, Stored::Bf16, batch, Precision::F32);
        assert!(!model.prefers_dense() && model.structured > 0.0, "{model:?}");
        let model = of(&one, Stored::Bf16, 65536, Precision::F32);
        assert!(model.prefers_dense(), "{model:?}");
    }
    // x and y once are 0.64 ms.
    let model = of(&butterfly, Stored::F32, 65536, Precision::F32);
    assert!((0.64e-3..1.3e-3).contains(&model.structured), "{model:?}");
    assert!(of(&butterfly, Stored::F32, 65536, Precision::Tf32).dense < model.dense);
}

/// Large blocks of half precision on (emulated) tensor cores, against the same in single precision.
#[test]
fn tensor_cores_lose_less_than_half_precision() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let shuffled = plan(96, &RandomShuffle { block: 16, stages: 2, seed: 3 });
    let back = plan(64, &BlockDiagonal::new(16)).then(plan(64, &BlockDiagonal::new(32)).adjoint()).unwrap();
    let mut worst = 0.0f32;
    for (plan, batch) in [
        (plan(128, &Butterfly::boft(2, 32).unwrap()), 13),
        (shuffled, 8),
        (back, 3),
        (plan(64, &BlockDiagonal::new(64)), 9),
    ] {
        let n = plan.n();
        let factors = plan.realize(&theta(&plan)).unwrap();
        let schedule = Schedule::new(&plan, 8).unwrap();
        let tile = verbs::tile(&schedule, 100 << 10, 1).unwrap();
        assert!(schedule.packed > 0 && tile.planes % 2 == 0);
        let packed = std::vec![u32::MAX; 4 * schedule.packed * schedule.parts()];
        let mut memory = Memory::default()
            .with("numbers", &numbers(&schedule, &factors))
            .with("packed", &packed)
            .with("index", &schedule.index);
        for call in verbs::pack(&schedule) {
            memory.run(&call);
        }
        for op in [Op::None, Op::Adjoint] {
            let x: Vec<f16> = vectors(n, batch).iter().map(|x| f16::from_f32(*x)).collect();
            let mut memory = memory.clone().with("x", &x).with("y", &std::vec![f16::NAN; x.len()]);
            let rows = Rows { batch, stride: n, aligned: true };
            memory.run(&verbs::apply(&schedule, tile, Stored::F16, op == Op::Adjoint, rows, rows).unwrap());
            let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
            let expected = on_cpu(&plan, &factors, op, &wide);
            let size = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            for (y, expected) in memory.get::<f16>("y").iter().zip(&expected) {
                // Half the last place of f16, and what was left out.
                let (lost, place) = ((y.to_f32() - expected).abs(), expected.abs().max(6.1e-5) / 2048.0);
                assert!(lost <= place + size * 2.0f32.powi(-15), "n = {n}, {op:?}: {y} and {expected}");
                worst = worst.max((lost - place) / size);
            }
        }
    }
    println!("beyond half a place of f16: {worst:e} of the largest number");
}
