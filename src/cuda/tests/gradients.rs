//! Gradients against the CPU's.

use super::*;

/// ∂x and ∂factors by the emulated kernels. Vectors are `gap` numbers apart, which stay what they are.
fn emulated_vjp<E: Number + bytemuck::Pod>(
    plan: &Plan<f32>,
    factors: &Factors<f32>,
    [saved, gy]: [&[E]; 2],
    wanted: Wanted,
    transposed: bool,
    gap: usize,
    tile: Option<Tile>,
) -> (Vec<E>, Vec<f32>) {
    let (n, batch) = (plan.n(), gy.len() / plan.n());
    let schedule = Schedule::new(plan, if plan.is_exact() { 8 } else { 1 }).unwrap();
    let tile = tile.unwrap_or_else(|| tile::gradient_tile(&schedule, 100 << 10).unwrap());
    let stride = n + gap;
    let (stored, aligned) = (buffer::stored::<E>(), (stride * size_of::<E>()).is_multiple_of(16));
    let rows = Rows { batch, stride, aligned };
    let between = E::store(7.0);
    let apart = |x: &[E]| -> Vec<E> {
        let row = |x: &[E]| x.iter().copied().chain(core::iter::repeat_n(between, gap)).collect::<Vec<E>>();
        x.chunks(n).flat_map(row).collect()
    };
    let (size, tangents) = (verbs::sums(&schedule), &schedule.tangents);
    let crew = verbs::crew(&schedule, tile, stored, wanted.from_input);
    let slots = std::vec![f32::NAN; verbs::scratch(&schedule, crew, 2, batch) - size];
    let mut memory = Memory::default()
        .with("saved", &apart(saved))
        .with("gy", &apart(gy))
        .with("gx", &std::vec![between; batch * stride])
        .with("numbers", &numbers(&schedule, factors))
        .with("packed", &std::vec![u32::MAX; 4 * schedule.packed * schedule.parts()])
        .with("index", &schedule.index)
        .with("starts", &schedule.entries.starts)
        .with("places", &schedule.entries.places)
        .with("moment_starts", &tangents.sums.starts)
        .with("moment_places", &tangents.sums.places)
        .with("moments", &std::vec![f64::NAN; tangents.moments])
        .with("entry_numbers", &tangents.numbers)
        .with("order", &tangents.order)
        .with("stages", &tangents.stages)
        .with("slots", &slots)
        .with("sums", &std::vec![f32::NAN; size])
        .with("d_factors", &std::vec![0.5f32; plan.num_entries()]);
    let packs = if stored == Stored::F32 { Vec::new() } else { verbs::pack(&schedule) };
    for call in packs.iter().chain(&verbs::vjp(&schedule, tile, stored, transposed, wanted, 2, [rows; 3])) {
        memory.run(call);
    }
    let gx: Vec<E> = memory.get("gx");
    let bits = |x: &[E]| bytemuck::cast_slice::<E, u8>(x).to_vec();
    let untouched = |x: &[E]| bits(x) == bits(&std::vec![between; x.len()]);
    assert!(gx.chunks(stride).all(|row| untouched(&row[if wanted.gx { n } else { 0 }..])), "written between rows");
    (gx.chunks(stride).flat_map(|row| row[..n].to_vec()).collect(), memory.get("d_factors"))
}

/// What keeps orthogonal blocks of up to eight orthogonal: Q·½(QᵀG − GᵀQ). It began as halves.
fn project(plan: &Plan<f32>, factors: &Factors<f32>, d: &mut [f32]) {
    for stage in plan.stages().iter().filter(|stage| plan.is_exact() && stage.layout().block_size() <= 8) {
        let b = stage.layout().block_size();
        for g in 0..stage.num_groups() {
            let at = |i, k| stage.entry(g, i, k);
            let q = |i, k| f64::from(factors.entries()[at(i, k)]);
            let whole: Vec<f64> = (0..b * b).map(|e| f64::from(d[at(e / b, e % b)]) - 0.5).collect();
            let inner = |i: usize, k: usize| (0..b).map(|l| q(l, i) * whole[l * b + k]).sum::<f64>();
            for (i, k) in (0..b).flat_map(|i| (0..b).map(move |k| (i, k))) {
                let sum: f64 = (0..b).map(|l| q(i, l) * (inner(l, k) - inner(k, l))).sum();
                d[at(i, k)] = (0.5 + 0.5 * sum) as f32;
            }
        }
    }
}

/// The kernels' gradients against the CPU's: how far those of entries are off, in units of eps.
fn check(name: &str, plan: &Plan<f32>, batch: usize, op: Op, from_input: bool, tile: Option<Tile>) -> f32 {
    let factors = plan.realize(&theta(plan)).unwrap();
    let x = vectors(plan.n(), batch);
    let y = on_cpu(plan, &factors, op, &x);
    let gy: Vec<f32> = x.iter().map(|x| (3.0 * x + 0.2).cos()).collect();
    let saved = if from_input { &x } else { &y };
    let wanted = Wanted { from_input, gx: true };
    let (gx, d) = emulated_vjp(plan, &factors, [saved, &gy], wanted, op == Op::Adjoint, 0, tile);
    let n = plan.n();
    let (mut cpu_gx, mut cpu_d) = (std::vec![f32::NAN; x.len()], std::vec![0.5f32; plan.num_entries()]);
    let rows = |x| Batch::rows(x, n).unwrap();
    let from = if from_input { Saved::Input(rows(&x[..])) } else { Saved::Output(rows(&y[..])) };
    let (to, d_to) = (BatchMut::rows(&mut cpu_gx, n).unwrap(), Some(&mut cpu_d[..]));
    let workspace = &mut Workspace::new();
    plan.apply_vjp(&factors, from, op, rows(&gy[..]), Some(to), d_to, Parallelism::None, workspace).unwrap();
    assert!(same(&gx, &cpu_gx), "{name}, {op:?}, {tile:?}:\n{gx:?}\n{cpu_gx:?}");
    project(plan, &factors, &mut cpu_d);
    let miss = ratio(&d, &cpu_d);
    // A large block is undone with errors that grow with it.
    let b = plan.stages().iter().map(|stage| stage.layout().block_size()).max().unwrap_or(1);
    assert!(miss <= 4.0f32.max(0.4 * (b as f32).sqrt()), "{name}, {op:?}, {batch}, {tile:?}: {miss} eps");
    miss
}

#[test]
fn gradients_are_those_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    let mut all = plans();
    let neumann = Plan::new(48, &Butterfly::boft(2, 8).unwrap(), CayleyNeumann { order: 3 });
    all.push(("not orthogonal", neumann.unwrap()));
    all.push(("signs", fixed(1, &[1.0, -1.0, 1.0, -1.0, -1.0])));
    all.push(("scales", fixed(1, &[2.0, 0.5, 1.5]).then(fixed(1, &[3.0, -1.0, 0.25])).unwrap()));
    all.push(("scaled pairs", fixed(2, &[1.2, -1.6, 1.6, 1.2, 0.3, -0.4, 0.4, 0.3])));
    let mut worst = 0.0f32;
    for (name, plan) in all {
        for (batch, op, from_input) in [(11, Op::Adjoint, true), (140, Op::None, false)] {
            if from_input || plan.is_exact() {
                worst = worst.max(check(name, &plan, batch, op, from_input, None));
            }
        }
    }
    println!("gradients of entries: {worst} eps");
}

/// Planes of a thread one after the other, several copies in a slot.
#[test]
fn gradients_of_every_tile() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let pairs = Plan::<f32>::new(128, &Butterfly::classic(2), Givens).unwrap();
    let boft = |n, m, b| plan(n, &Butterfly::boft(m, b).unwrap());
    for (name, plan, sizes) in [
        ("boft 3, 8", boft(128, 3, 8), [4, 8, 2, 32]),
        ("boft 3, 8", boft(128, 3, 8), [4, 4, 1, 32]),
        ("boft 3, 8", boft(128, 3, 8), [2, 16, 2, 64]),
        ("boft 3, 8", boft(128, 3, 8), [1, 6, 3, 32]),
        ("boft 4, 4", boft(64, 4, 4), [4, 8, 2, 32]),
        ("pairs", pairs.clone(), [4, 4, 4, 32]),
        ("pairs", pairs.clone(), [4, 2, 2, 32]),
        ("pairs", pairs, [2, 4, 2, 64]),
        ("boft 2, 16", boft(64, 2, 16), [4, 4, 2, 32]),
    ] {
        let tile = Tile::new(sizes, 0).unwrap();
        for (batch, op, from_input) in [(11, Op::None, true), (150, Op::Adjoint, false)] {
            check(name, &plan, batch, op, from_input, Some(tile));
        }
    }
}

/// Large blocks: entries and gradients in shared memory or not, one or several tiles of a block of threads, patches that
/// threads share, blocks that are no whole patches, other passes beside them, with copies of their gradients.
#[test]
fn gradients_of_large_blocks() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let blocks = |n, b| plan(n, &BlockDiagonal::new(b));
    let mixed = blocks(48, 16).then(plan(48, &Butterfly::boft(3, 4).unwrap())).unwrap();
    let neumann = Plan::new(48, &BlockDiagonal::new(24), CayleyNeumann { order: 3 }).unwrap();
    let back = blocks(64, 16).then(blocks(64, 32).adjoint()).unwrap();
    let mut worst = 0.0f32;
    for (name, plan, sizes) in [
        ("boft 2, 16", plan(64, &Butterfly::boft(2, 16).unwrap()), [4, 8, 8, 64]),
        ("boft 2, 32", plan(64, &Butterfly::boft(2, 32).unwrap()), [4, 4, 4, 128]),
        ("boft 2, 32", plan(64, &Butterfly::boft(2, 32).unwrap()), [2, 6, 3, 32]),
        ("there and back", back, [4, 2, 1, 96]),
        ("mixed", mixed, [4, 4, 2, 32]),
        ("not orthogonal", neumann, [4, 4, 4, 64]),
        ("blocks of 10", blocks(50, 10), [1, 4, 4, 256]),
        ("blocks of 12", blocks(24, 12), [4, 16, 16, 64]),
        ("one block of 13", blocks(13, 13), [4, 2, 2, 40]),
        ("one block of 100", blocks(100, 100), [4, 3, 1, 64]),
        ("one block of 264", blocks(264, 264), [4, 1, 1, 32]),
    ] {
        let tile = Tile::new(sizes, 0).unwrap();
        let keeps = tile.keeping(&Schedule::new(&plan, if plan.is_exact() { 8 } else { 1 }).unwrap(), 2, 100 << 10);
        for (batch, op, from_input) in [(7, Op::Adjoint, true), (75, Op::None, !plan.is_exact())] {
            worst = worst.max(check(name, &plan, batch, op, from_input, Some(tile)));
            worst = worst.max(check(name, &plan, batch, op, from_input, Some(keeps)));
        }
    }
    println!("gradients of entries of large blocks: {worst} eps");
}

/// How gradients of half precision are asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    batch: usize,
    op: Op,
    from_input: bool,
    gx: bool,
    gap: usize,
}

/// Half precision: against the CPU in single precision, from the same numbers. What is lost of gradients of entries, in
/// units of 2⁻¹⁶ of the largest.
fn check_half<E: Number + bytemuck::Pod>(name: &str, plan: &Plan<f32>, asked: Asked) -> f32 {
    let Asked { batch, op, from_input, gx: wants_gx, gap } = asked;
    let factors = plan.realize(&theta(plan)).unwrap();
    let round = |x: &[f32]| x.iter().map(|x| E::store(*x)).collect::<Vec<E>>();
    let widen = |x: &[E]| x.iter().map(|x| x.load()).collect::<Vec<f32>>();
    let (n, x) = (plan.n(), vectors(plan.n(), batch));
    let gy = round(&x.iter().map(|x| (3.0 * x + 0.2).cos()).collect::<Vec<f32>>());
    let saved = round(&if from_input { x } else { on_cpu(plan, &factors, op, &x) });
    let wanted = Wanted { from_input, gx: wants_gx };
    let (gx, d) = emulated_vjp(plan, &factors, [&saved, &gy], wanted, op == Op::Adjoint, gap, None);
    let (wide_saved, wide_gy) = (widen(&saved), widen(&gy));
    let (mut cpu_gx, mut cpu_d) = (std::vec![f32::NAN; gy.len()], std::vec![0.5f32; plan.num_entries()]);
    let rows = |x| Batch::rows(x, n).unwrap();
    let from = if from_input { Saved::Input(rows(&wide_saved[..])) } else { Saved::Output(rows(&wide_saved[..])) };
    let (to, d_to) = (BatchMut::rows(&mut cpu_gx, n).unwrap(), Some(&mut cpu_d[..]));
    plan.apply_vjp(&factors, from, op, rows(&wide_gy[..]), Some(to), d_to, Parallelism::None, &mut Workspace::new())
        .unwrap();
    let place = (E::store(1.0 + 1.0 / 128.0).load() - 1.0).min(1.0 / 256.0);
    let size = cpu_gx.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (got, expected) in gx.iter().zip(&cpu_gx).filter(|_| wants_gx) {
        let got = got.load();
        let fits = (got - expected).abs() <= place * got.abs().max(expected.abs()) + size * 2.0f32.powi(-15);
        assert!(fits, "{name}, {asked:?}: {got} and {expected}");
    }
    project(plan, &factors, &mut cpu_d);
    ratio(&d, &cpu_d) * f32::EPSILON * 65536.0
}

/// From the input and from the output, with ∂x and without, vectors side by side and anywhere, batches that fill no warp or many:
/// the most that is lost.
fn check_half_of_all(name: &str, plan: &Plan<f32>) -> f32 {
    let mut worst = 0.0f32;
    for (batch, op, from_input, gx, gap) in [
        (7, Op::Adjoint, true, true, 0),
        (150, Op::None, true, true, 8),
        (75, Op::Adjoint, false, true, 0),
        (33, Op::None, false, true, 3),
        (21, Op::None, true, false, 1),
        (17, Op::Adjoint, false, false, 8),
    ] {
        if from_input || plan.is_exact() {
            let asked = Asked { batch, op, from_input, gx, gap };
            let other = Asked { op: if op == Op::None { Op::Adjoint } else { Op::None }, ..asked };
            worst = worst.max(check_half::<bf16>(name, plan, asked)).max(check_half::<f16>(name, plan, other));
        }
    }
    worst
}

/// Blocks of 16 to 64: vectors, their gradients and sums in registers; several parts, blocks that act transposed, blocks that are
/// not orthogonal.
#[test]
fn gradients_in_registers() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let blocks = |n, b| plan(n, &BlockDiagonal::new(b));
    let boft = |n, m, b| plan(n, &Butterfly::boft(m, b).unwrap());
    let mut worst = 0.0f32;
    for (name, plan) in [
        ("boft 2, 16", boft(64, 2, 16)),
        ("boft 3, 16", boft(64, 3, 16)),
        ("boft 2, 32", boft(128, 2, 32)),
        ("blocks of 16", blocks(16, 16)),
        ("blocks of 48", blocks(48, 48)),
        ("blocks of 64", blocks(64, 64)),
        ("there and back", blocks(64, 16).then(blocks(64, 32).adjoint()).unwrap()),
        ("not orthogonal", Plan::new(64, &Butterfly::boft(2, 16).unwrap(), CayleyNeumann { order: 3 }).unwrap()),
    ] {
        let chain = Schedule::new(&plan, 8).unwrap().chain;
        assert!(chain.is_some_and(|chain| chain.sums.is_some() && chain.from_input), "{name}");
        worst = worst.max(check_half_of_all(name, &plan));
    }
    println!("gradients of entries in registers: {worst} of 2^-16");
    assert!(worst <= 2.0);
}

/// What does not fit registers, and small blocks: the first and the last pass read and write half precision by themselves, in eights,
/// fours, or words that threads exchange.
#[test]
fn gradients_of_half_precision_in_tiles() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let twice = plan(64, &Butterfly::boft(2, 16).unwrap());
    let twice = twice.clone().then(twice).unwrap();
    let mut worst = 0.0f32;
    for (name, plan) in [
        ("classic 256", Plan::new(256, &Butterfly::classic(2), Givens).unwrap()),
        ("boft 3, 8 of 512", plan(512, &Butterfly::boft(3, 8).unwrap())),
        ("any 37", plan(37, &AnyButterfly::new(4))),
        ("blocks of 48 of 96", plan(96, &BlockDiagonal::new(48))),
        ("four of 16, from the input", twice),
    ] {
        let chain = Schedule::new(&plan, 8).unwrap().chain;
        assert!(chain.is_none_or(|chain| chain.sums.is_none() || !chain.from_input), "{name}");
        worst = worst.max(check_half_of_all(name, &plan));
    }
    println!("gradients of entries of half precision in tiles: {worst} of 2^-16");
    assert!(worst <= 2.0);
}
