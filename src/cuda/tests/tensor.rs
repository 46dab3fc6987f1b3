//! Large blocks of half precision on (emulated) tensor cores, against the same in single precision.

use super::*;

/// A batch, how far apart its vectors are, and whether they start at multiples of 16 bytes; y is x.
#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    stride: usize,
    aligned: bool,
    in_place: bool,
}

/// How much more than half a place of the type is lost, in units of the largest number.
fn lost<E: Number + bytemuck::Pod>(
    plan: &Plan<f32>,
    factors: &Factors<f32>,
    schedule: &Schedule,
    memory: &Memory,
    shape: Shape,
    op: Op,
) -> f32 {
    let Shape { batch, stride, aligned, in_place } = shape;
    let n = plan.n();
    let x: Vec<E> = vectors(stride, batch).iter().map(|x| E::store(*x)).collect();
    let filled = std::vec![E::store(7.0); x.len()];
    let mut memory = memory.clone().with("x", &x).with("y", &filled);
    let tile = tile::tile(schedule, 100 << 10, Stored::F32).unwrap();
    let rows = Rows { batch, stride, aligned };
    let mut call = verbs::apply(schedule, tile, buffer::stored::<E>(), op == Op::Adjoint, rows, rows).unwrap();
    if schedule.chain.is_some() && batch > 64 {
        call.blocks = schedule.parts(); // which go through the batch in steps
    }
    if in_place {
        call.arguments[2] = call.arguments[0].clone();
    }
    memory.run(&call);
    let y: Vec<E> = memory.get(if in_place { "x" } else { "y" });
    let between = if in_place { &x } else { &filled };
    let mut worst = 0.0f32;
    for row in 0..batch {
        let wide: Vec<f32> = x[row * stride..][..n].iter().map(|x| x.load()).collect();
        let expected = on_cpu(plan, factors, op, &wide);
        let size = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        // Half a place of the smallest number of each power of two.
        let half_a_place = if buffer::stored::<E>() == Stored::F16 { 2.0f32.powi(-11) } else { 2.0f32.powi(-8) };
        for (c, expected) in expected.iter().enumerate() {
            let y = y[row * stride + c].load();
            let place = half_a_place * (y.abs().max(expected.abs()).max(6.1e-5));
            let beyond = ((y - expected).abs() - place) / size;
            worst = if beyond > worst || beyond.is_nan() { beyond } else { worst };
        }
        for c in n..stride {
            let bits = |x: &[E]| bytemuck::bytes_of(&x[row * stride + c]).to_vec();
            assert!(bits(&y) == bits(between), "written between rows");
        }
    }
    worst
}

/// Factors packed for a schedule.
fn packed(schedule: &Schedule, factors: &Factors<f32>) -> Memory {
    let mut memory = Memory::default()
        .with("numbers", &numbers(schedule, factors))
        .with("packed", &std::vec![u32::MAX; 4 * schedule.packed * schedule.parts()])
        .with("index", &schedule.index);
    for call in verbs::pack(schedule) {
        memory.run(&call);
    }
    memory
}

fn check(name: &str, plan: &Plan<f32>, in_registers: bool, shapes: &[Shape]) -> f32 {
    let factors = plan.realize(&theta(plan)).unwrap();
    let mut schedule = Schedule::new(plan, 8).unwrap();
    assert!(schedule.packed > 0 && (!in_registers || schedule.chain.is_some()), "{name}");
    if !in_registers {
        schedule.chain = None;
    }
    let memory = packed(&schedule, &factors);
    let mut worst = 0.0f32;
    for (at, shape) in shapes.iter().enumerate() {
        let op = [Op::None, Op::Adjoint][at % 2];
        for lost in [
            lost::<f16>(plan, &factors, &schedule, &memory, *shape, op),
            lost::<bf16>(plan, &factors, &schedule, &memory, *shape, op),
        ] {
            assert!(lost <= 2.0f32.powi(-15), "{name}, {shape:?}, {op:?}: {lost:e}");
            worst = worst.max(lost);
        }
    }
    worst
}

fn plan(n: usize, topology: &dyn crate::Topology) -> Plan<f32> {
    Plan::new(n, topology, Cayley).unwrap()
}

fn rows(batch: usize, n: usize) -> Shape {
    Shape { batch, stride: n, aligned: true, in_place: false }
}

/// Through a tile: tables, other stages between, parts that are too long.
#[test]
fn tensor_cores_lose_less_than_half_precision() {
    if !emulation::is_there() {
        return;
    }
    let shuffled = plan(96, &RandomShuffle { block: 16, stages: 2, seed: 3 });
    let mixed = plan(64, &BlockDiagonal::new(16)).then(plan(64, &BlockDiagonal::new(8))).unwrap();
    let mut worst = 0.0f32;
    for (name, plan) in
        [("boft", plan(128, &Butterfly::boft(2, 32).unwrap())), ("shuffled", shuffled), ("mixed", mixed)]
    {
        let n = plan.n();
        worst = worst.max(check(name, &plan, false, &[rows(13, n), rows(8, n)]));
    }
    println!("beyond half a place: {worst:e} of the largest number");
}

/// In registers: every size of blocks, all ways of threads to own coordinates, several parts, blocks that act
/// transposed, one warp and several, vectors anywhere.
#[test]
fn vectors_stay_in_registers() {
    if !emulation::is_there() {
        return;
    }
    let back = plan(64, &BlockDiagonal::new(16)).then(plan(64, &BlockDiagonal::new(32)).adjoint()).unwrap();
    let boft = |n, m, b| plan(n, &Butterfly::boft(m, b).unwrap());
    let mut worst = 0.0f32;
    for (name, plan) in [
        ("boft 2, 32", boft(128, 2, 32)),
        ("boft 3, 16", boft(64, 3, 16)),
        ("boft 4, 16", boft(256, 4, 16)),
        ("boft 2, 64", boft(128, 2, 64)),
        ("boft 3, 32", boft(128, 3, 32)),
        ("boft 4, 32", boft(256, 4, 32)),
        ("radix 16", plan(256, &Butterfly { unit: 16, radix: 2, stages: Some(3) })),
        ("blocks of 16", plan(16, &BlockDiagonal::new(16))),
        ("blocks of 32", plan(160, &BlockDiagonal::new(32))),
        ("blocks of 48", plan(288, &BlockDiagonal::new(48))),
        ("blocks of 64", plan(64, &BlockDiagonal::new(64))),
        ("back", back),
    ] {
        let n = plan.n();
        let shapes = [
            rows(33, n),
            rows(133, n),
            Shape { batch: 17, stride: n + 8, aligned: true, in_place: true },
            Shape { batch: 1, stride: n + 3, aligned: false, in_place: false },
        ];
        let lost = check(name, &plan, true, &shapes);
        println!("{name}: {lost:e} of the largest number, beyond half a place");
        worst = worst.max(lost);
    }
    println!("{worst:e}");
}

/// What no register can hold, or no eight neighbours make up, goes through a tile.
#[test]
fn other_plans_do_not_stay_in_registers() {
    let has = |plan: &Plan<f32>| Schedule::new(plan, 8).unwrap().chain.is_some();
    assert!(has(&plan(4096, &Butterfly::boft(2, 32).unwrap())));
    assert!(!has(&plan(1024, &Butterfly::boft(5, 32).unwrap())));
    assert!(!has(&plan(96, &RandomShuffle { block: 16, stages: 2, seed: 3 })));
    assert!(!has(&plan(64, &BlockDiagonal::new(8))));
    assert!(!has(&plan(64, &Monarch::new(4))));
    assert!(!has(&plan(80, &BlockDiagonal::new(80))));
    assert!(!has(&Plan::identity(64).unwrap()));
}
