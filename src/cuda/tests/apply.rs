//! `apply`: the bits of the CPU, for every plan, tile, type and stride.

use super::*;

fn emulated(
    plan: &Plan<f32>,
    factors: &Factors<f32>,
    window: usize,
    tile: Option<Tile>,
    op: Op,
    x: &[f32],
    batch: usize,
) -> Vec<f32> {
    let schedule = Schedule::new(plan, window).unwrap();
    let tile = tile.unwrap_or_else(|| tile::tile(&schedule, 100 << 10, Stored::F32).unwrap());
    let rows = Rows { batch, stride: plan.n(), aligned: plan.n().is_multiple_of(4) };
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

#[test]
fn apply_has_the_bits_of_the_cpu() {
    if !emulation::is_there() {
        return;
    }
    for (name, plan) in plans() {
        let factors = plan.realize(&theta(&plan)).unwrap();
        for (window, batch, op) in [(8, 9, Op::None), (if plan.n() % 3 == 0 { 16 } else { 1 }, 3, Op::Adjoint)] {
            let x = vectors(plan.n(), batch);
            let y = emulated(&plan, &factors, window, None, op, &x, batch);
            let expected = on_cpu(&plan, &factors, op, &x);
            assert!(same(&y, &expected), "{name}, windows of {window}, {op:?}:\n{y:?}\n{expected:?}");
        }
        println!(
            "{name}: {:?}",
            Schedule::new(&plan, 8).unwrap().passes.iter().map(|p| (p.window, p.stages.len())).collect::<Vec<_>>()
        );
    }
}

/// Vectors of a stored type one every `stride` numbers, through the emulated kernel and through the CPU's.
fn stored_batches<E: Number + bytemuck::Pod>(
    plan: &Plan<f32>,
    in_place: bool,
    aligned: bool,
    batch: usize,
    stride: usize,
    op: Op,
) {
    let factors = plan.realize(&theta(plan)).unwrap();
    let n = plan.n();
    let x: Vec<E> = vectors(stride, batch).iter().map(|x| E::store(*x)).collect();
    let schedule = Schedule::new(plan, tile::windows(plan)[0]).unwrap();
    let tile = tile::tile(&schedule, 100 << 10, buffer::stored::<E>()).unwrap();
    // As batches on a device: every row starts at a multiple of sixteen bytes.
    let aligned = aligned && (stride * size_of::<E>()).is_multiple_of(16);
    let rows = Rows { batch, stride, aligned };
    let filled = std::vec![E::store(7.0); x.len()];
    let mut memory = Memory::default()
        .with("x", &x)
        .with("y", &filled)
        .with("numbers", &numbers(&schedule, &factors))
        .with("angle_source", &schedule.angles)
        .with("angles", &std::vec![f32::NAN; schedule.angles.len()])
        .with("packed", &[0u32; 0])
        .with("index", &schedule.index);
    verbs::angles(&schedule).iter().for_each(|call| memory.run(call));
    let mut call = verbs::apply(&schedule, tile, buffer::stored::<E>(), op == Op::Adjoint, rows, rows).unwrap();
    if in_place {
        call.arguments[2] = call.arguments[0].clone();
    }
    memory.run(&call);
    let y: Vec<E> = memory.get(if in_place { "x" } else { "y" });
    let mut expected = if in_place { x.clone() } else { filled };
    let input = Batch::strided(&x, batch, n, stride, 1).unwrap();
    let output = BatchMut::strided(&mut expected, batch, n, stride, 1).unwrap();
    plan.apply(&factors, input, output, op, Parallelism::None, &mut Workspace::new()).unwrap();
    // By angles, cosines and sines are not to the last bit: less is lost than rounding does.
    let by_angles = size_of::<E>() == 2 && !schedule.angles.is_empty();
    let size = x.iter().fold(0.0f32, |m, x| m.max(x.load().abs()));
    let place = E::store(1.0 + 1.0 / 128.0).load() - 1.0;
    for (at, (y, expected)) in y.iter().zip(&expected).enumerate() {
        let (y, expected) = (y.load(), expected.load());
        let bound = if by_angles { place * expected.abs() + size * 2.0f32.powi(-15) } else { 0.0 };
        let fits = y.to_bits() == expected.to_bits() || (y - expected).abs() <= bound;
        assert!(fits, "{} {batch} {stride}, {at}: {y} and {expected}", core::any::type_name::<E>());
    }
}

#[test]
fn stored_types_and_strides() {
    if !emulation::is_there() {
        return;
    }
    // Windows of 16: a first pass of runs, and a last one.
    let butterfly = Plan::<f32>::new(512, &Butterfly::classic(2), Givens).unwrap();
    for op in [Op::None, Op::Adjoint] {
        stored_batches::<f32>(&butterfly, false, true, 9, 512, op);
        stored_batches::<bf16>(&butterfly, true, true, 9, 520, op);
        stored_batches::<f16>(&butterfly, false, true, 5, 512, op);
    }
    let pairs = |n| Plan::<f32>::new(n, &AnyButterfly::new(2), Givens).unwrap();
    let fours = |n| Plan::<f32>::new(n, &AnyButterfly::new(4), Cayley).unwrap();
    for (in_place, aligned, n, batch, stride) in [
        (false, true, 64, 6, 64),
        (true, true, 64, 9, 72),
        (false, false, 61, 5, 61),
        (true, false, 61, 1, 63),
        (true, true, 256, 18, 264),
        (true, true, 256, 7, 260),
        (false, false, 256, 3, 259),
    ] {
        for plan in [pairs(n), fours(n)] {
            stored_batches::<f32>(&plan, in_place, aligned, batch, stride, Op::None);
            stored_batches::<bf16>(&plan, in_place, aligned, batch, stride, Op::Adjoint);
            stored_batches::<f16>(&plan, in_place, aligned, batch, stride, Op::None);
        }
    }
}

/// What looks like rotations but has another scale keeps it in half precision, too.
#[test]
fn scaled_pairs_keep_their_scale() {
    if !emulation::is_there() {
        return;
    }
    let plan = fixed(2, &[1.2, -1.6, 1.6, 1.2, 0.3, -0.4, 0.4, 0.3]);
    stored_batches::<bf16>(&plan, false, true, 3, 4, Op::None);
    stored_batches::<f16>(&plan, true, true, 3, 4, Op::Adjoint);
}

/// Tiles of every shape, also those that only large vectors or a device with other sizes would get; more blocks than
/// tiles.
#[test]
fn every_tile_gives_the_same_bits() {
    if !emulation::is_there() {
        return;
    }
    let plan = |n, topology: &dyn crate::Topology| Plan::<f32>::new(n, topology, Cayley).unwrap();
    let pairs = Plan::<f32>::new(128, &Butterfly::classic(2), Givens).unwrap();
    let boft = plan(64, &Butterfly::boft(3, 8).unwrap());
    let large = [(48, 24), (50, 10), (24, 12), (13, 13), (100, 100), (264, 264)];
    let large = large.map(|(n, b)| plan(n, &BlockDiagonal::new(b)));
    let some = [plan(64, &Butterfly::boft(2, 16).unwrap()), pairs, boft, plan(24, &BlockDiagonal::new(4))];
    for plan in some.into_iter().chain(large) {
        let factors = plan.realize(&theta(&plan)).unwrap();
        let x = vectors(plan.n(), 45);
        for (at, tile) in [
            [1, 1, 1, 32],
            [2, 3, 1, 64],
            [4, 4, 2, 32],
            [4, 2, 2, 96],
            [2, 2, 1, 256],
            [4, 8, 1, 64],
            [1, 16, 2, 32],
            [2, 16, 1, 128],
        ]
        .into_iter()
        .enumerate()
        {
            if plan.n() >= 100 && at % 3 != 0 && plan.num_stages() == 1 {
                continue; // what these take is the compiler's time
            }
            let op = [Op::None, Op::Adjoint][at % 2];
            let expected = on_cpu(&plan, &factors, op, &x);
            let tile = Tile::new(tile, tile[1] - 1).unwrap();
            let keeps = tile.keeping(&Schedule::new(&plan, 8).unwrap(), 1, 100 << 10);
            for tile in [tile, keeps] {
                let y = emulated(&plan, &factors, 8, Some(tile), op, &x, 45);
                assert!(same(&y, &expected), "n = {}, {tile:?}", plan.n());
            }
        }
    }
}

/// The first pass of a butterfly of pairs reads its windows as runs, its last one side by side, and the other way
/// round where it is transposed, through the tile only where halves of 32 bytes would be written; a table goes
/// through the tile.
#[test]
fn first_and_last_passes_go_without_the_tile() {
    let ways = |plan: &Plan<f32>, stored, aligned, transposed| {
        let schedule = Schedule::new(plan, 8).unwrap();
        let tile = tile::tile(&schedule, 100 << 10, Stored::F32).unwrap();
        let rows = Rows { batch: 5, stride: plan.n(), aligned };
        let source = verbs::apply(&schedule, tile, stored, transposed, rows, rows).unwrap().program.source.clone();
        ["FIRST_READS", "LAST_WRITES"].map(|name| {
            let at = source.find(&std::format!("#define {name} ")).unwrap();
            source[at..].split_whitespace().nth(2).unwrap().parse::<usize>().unwrap()
        })
    };
    let pairs = Plan::new(512, &Butterfly::classic(2), Givens).unwrap();
    let table = Plan::new(512, &RandomShuffle { block: 4, stages: 3, seed: 7 }, Cayley).unwrap();
    assert_eq!(ways(&pairs, Stored::F32, true, false), [1, 2]);
    assert_eq!(ways(&pairs, Stored::F32, true, true), [2, 0]);
    assert_eq!(ways(&pairs, Stored::Bf16, true, true), [4, 3]);
    assert_eq!(ways(&pairs, Stored::Bf16, true, false), [3, 2]);
    assert_eq!(ways(&pairs, Stored::F16, false, false), [0, 2]);
    let eights = Plan::new(512, &Butterfly::boft(3, 8).unwrap(), Cayley).unwrap();
    assert_eq!(ways(&eights, Stored::Bf16, true, false), [3, 1]); // runs of eight, of four
    assert_eq!(ways(&pairs, Stored::F32, false, false), [0, 2]);
    assert_eq!(ways(&table, Stored::F32, true, false), [0, 0]);
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
    let y = emulated(&plan, &factors, 8, None, Op::None, &x, 3);
    let expected = on_cpu(&plan, &factors, Op::None, &x);
    assert!(same(&y[..16], &expected[..16]) && same(&y[32..], &expected[32..]));
    assert!(y[16..32].iter().all(|y| !y.is_finite()));
}
