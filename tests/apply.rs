//! The kernels against the naive product, in every shape, stride, instruction set and number of threads.

use papilio::{
    Batch, BatchMut, Element, Error, Isa, Op, Parallelism, Plan, Real, Saved, Scalar, Source, StageLayout, Wide,
    Workspace,
    generator::Generator,
    parametrization::{Cayley, Givens},
    topology::{BlockDiagonal, Butterfly},
};

type Stages = Vec<(StageLayout, Vec<f64>)>;

/// Stages with random, not orthogonal, blocks: the kernels must not care.
fn stages(seed: u64, layouts: &[StageLayout]) -> Stages {
    let mut g = Generator::new(seed);
    layouts
        .iter()
        .map(|layout| {
            let len = layout.num_blocks() * layout.block_size().pow(2);
            // Entries of a size that keeps products near 1, exactly representable in f32.
            let scale = 1.0 / (layout.block_size() as f64).sqrt();
            (layout.clone(), (0..len).map(|_| f64::from(((g.uniform() * 2.0 - 1.0) * scale) as f32)).collect())
        })
        .collect()
}

fn plan<T: Scalar<Wide = f64>>(n: usize, stages: &Stages) -> Plan<T> {
    let fixed = stages.iter().map(|(layout, blocks)| (layout.clone(), Source::Fixed(blocks.as_slice().into())));
    Plan::from_stages(n, fixed).unwrap()
}

/// op(Q) x by the definition, in f64.
fn naive(stages: &Stages, x: &[f64], op: Op) -> Vec<f64> {
    let mut x = x.to_vec();
    let transpose = matches!(op, Op::Transpose | Op::Adjoint);
    let order: Vec<_> = if transpose { stages.iter().rev().collect() } else { stages.iter().collect() };
    for (layout, blocks) in order {
        let (b, before) = (layout.block_size(), x.clone());
        for j in 0..layout.num_blocks() {
            for i in 0..b {
                x[layout.index(j, i)] = (0..b)
                    .map(|k| {
                        let (r, c) = if transpose { (k, i) } else { (i, k) };
                        blocks[j * b * b + r * b + c] * before[layout.index(j, k)]
                    })
                    .sum();
            }
        }
    }
    x
}

fn strided(unit: usize, radix: usize, distance: usize, groups: usize) -> StageLayout {
    StageLayout::Strided { unit, radix, distance, groups }
}

fn table(n: usize, block: usize, seed: u64) -> StageLayout {
    let mut index: Vec<u32> = (0..n as u32).collect();
    Generator::new(seed).shuffle(&mut index);
    index.truncate(n / block * block);
    StageLayout::Table { block, index: index.into() }
}

/// Sizes around lanes, pass-through tails, every compiled block size and some that are not, planar and row-major.
fn cases() -> Vec<(usize, Vec<StageLayout>)> {
    let mut cases = vec![
        (1, vec![]),
        (1, vec![strided(1, 1, 1, 1)]),
        (2, vec![strided(1, 2, 1, 1)]),
        (7, vec![strided(7, 1, 7, 1)]),
        (13, vec![strided(2, 2, 4, 1), table(13, 3, 5)]),
        (64, (0..6).map(|k| strided(1, 2, 1 << k, 64 >> (k + 1))).collect()),
        (100, vec![strided(1, 2, 33, 1), strided(1, 2, 16, 3), strided(1, 4, 25, 1), strided(1, 8, 12, 1)]),
        (96, vec![strided(2, 2, 2, 24), strided(2, 2, 4, 12), strided(2, 2, 8, 6), strided(2, 2, 16, 3)]),
        // Passes of two stages: with a tail, neighbours first, an odd distance, and what looks like one.
        (29, vec![strided(1, 2, 12, 1), strided(1, 2, 6, 2), strided(1, 2, 3, 4)]),
        (20, vec![strided(2, 1, 2, 10), strided(1, 2, 2, 5), strided(1, 2, 5, 2), strided(1, 2, 10, 1)]),
        (20, vec![strided(1, 2, 1, 10), strided(1, 2, 2, 4), strided(1, 2, 2, 5), strided(1, 2, 2, 5)]),
        (81, vec![strided(1, 3, 1, 27), strided(1, 3, 3, 9), strided(1, 3, 27, 1)]),
        (256, vec![strided(1, 16, 1, 16), strided(1, 16, 16, 1)]),
        (66, vec![strided(33, 1, 33, 2), strided(11, 3, 22, 1), strided(3, 2, 6, 5)]),
        (40, vec![strided(1, 1, 1, 0), table(40, 40, 3)]),
        // Windows: of neighbours with a tail, of mixed units, and of runs at a distance, upwards and downwards.
        (200, vec![strided(4, 2, 4, 24), strided(4, 2, 8, 12), strided(4, 2, 16, 6), strided(4, 2, 4, 24)]),
        (260, vec![strided(5, 1, 5, 52), strided(2, 5, 2, 26)]),
        (300, (0..8).map(|k| strided(1, 2, 1 << k, 256 >> (k + 1))).collect()),
        (192, (0..5).rev().map(|k| strided(3, 2, 3 << k, 64 >> (k + 1))).collect()),
    ];
    // Pairs anywhere: whole panels and not, planar and not, with coordinates that no block names, and other stages between.
    let few = |n: usize, pairs: usize, seed| match table(n, 2, seed) {
        StageLayout::Table { index, .. } => StageLayout::Table { block: 2, index: index[..2 * pairs].into() },
        other => other,
    };
    cases.push((200, vec![table(200, 2, 1), strided(1, 2, 1, 100), strided(1, 2, 16, 6), table(200, 2, 2)]));
    cases.push((160, vec![strided(1, 2, 16, 5), table(160, 2, 3), strided(2, 1, 2, 80), few(160, 7, 4)]));
    cases.push((71, vec![few(71, 17, 5), few(71, 0, 6), few(71, 1, 7), few(71, 35, 8)]));
    cases.push((64, vec![table(64, 2, 9), table(64, 4, 10), table(64, 2, 11)]));
    for b in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17] {
        cases.push((53, vec![table(53, b, b as u64), table(53, b, 100 + b as u64)]));
    }
    cases
}

/// Stages of pairs alone, which run along the vector: whole butterflies up and down, of few and many passes, with tails, out of
/// order, at distances that are no powers of 2, and such that fit no pass.
fn pairs() -> Vec<(usize, Vec<StageLayout>)> {
    let pairs = |n: usize, distances: &[usize]| {
        (n, distances.iter().map(|d| strided(1, 2, *d, n / (2 * d))).collect::<Vec<_>>())
    };
    let up: Vec<usize> = (0..11).map(|k| 1 << k).collect();
    let down: Vec<usize> = up.iter().rev().copied().collect();
    let mut cases = vec![
        pairs(32, &up[..5]),
        pairs(64, &down[5..]),
        pairs(128, &up[..7]),
        pairs(256, &down[3..]),
        pairs(1024, &up[..10]),
        pairs(2048, &down),
        pairs(128, &[1, 4, 2, 64, 8, 8, 16]),
        pairs(192, &[48, 96, 2, 1, 32]),
        pairs(96, &[1, 2, 24, 48]),
        pairs(4096, &[1024, 2048, 128, 64]), // 70 of these are copied first
    ];
    let (n, mut tail) = pairs(256, &[1, 2, 4, 8, 16, 32, 64, 128]);
    tail.push(strided(2, 1, 2, 128)); // neighbours, as a block-diagonal wiring has them
    cases.push((n + 39, tail));
    cases
}

/// Blocks of 4 and 8 alone, as pairs of runs, which run along the vector: BOFT's in order and out of it, block-diagonal ones, far
/// ones, of more than one pass, with tails, among pairs of single coordinates.
fn runs() -> Vec<(usize, Vec<StageLayout>)> {
    let runs = |n: usize, unit: usize, distances: &[usize]| {
        (n, distances.iter().map(|d| strided(unit, 2, *d, n / (2 * d))).collect::<Vec<_>>())
    };
    let (single, double) = (strided(1, 2, 4, 12), strided(2, 2, 8, 6));
    vec![
        runs(64, 4, &[4, 8, 16, 32]),
        runs(64, 2, &[2, 4, 8, 16, 32]),
        runs(384, 4, &[16, 4, 64, 8, 8, 32]),
        runs(96, 4, &[48, 4]),
        runs(96, 2, &[16, 2, 48, 8]),
        runs(2048, 4, &[4, 8, 16, 32, 64, 128, 256, 1024, 512]),
        runs(4096, 2, &[1024, 2048, 64, 2, 4]),
        (128 + 21, vec![strided(8, 1, 8, 16), strided(4, 1, 8, 16)]),
        (64 + 5, runs(64, 4, &[8, 16]).1),
        // Panels and registers that are not full.
        runs(40, 4, &[4]),
        runs(192, 4, &[4, 8, 16, 32]),
        runs(320, 4, &[32, 8, 4]),
        runs(48, 2, &[2, 4, 8]),
        (8 * 19 + 3, vec![strided(8, 1, 8, 19)]),
        (96, vec![double.clone(), single.clone(), strided(4, 2, 16, 3), double, single]),
    ]
}

/// Blocks of whole registers of rows: BOFT's, block-diagonal ones of one run and of several, with tails and windows, larger than
/// what is copied together; runs that are halves of registers, single coordinates, tables; and among stages of other kinds.
fn large() -> Vec<(usize, Vec<StageLayout>)> {
    let boft = |n: usize, b: usize, stages: u32| {
        let stages = (0..stages).map(|k| strided(b / 2, 2, (b / 2) << k, n / (b << k)));
        (n, stages.collect::<Vec<_>>())
    };
    let with_tail = |(n, layouts)| (n + 13, layouts);
    vec![
        boft(64, 16, 3),
        with_tail(boft(128, 32, 2)),
        boft(128, 64, 2),
        boft(192, 48, 1),
        (96, vec![strided(16, 1, 16, 6), strided(24, 1, 24, 4)]),
        (160, vec![strided(32, 1, 32, 5), strided(10, 16, 10, 1)]),
        (120, vec![strided(4, 4, 28, 1), strided(8, 5, 24, 1), strided(8, 3, 8, 5)]),
        (144, vec![strided(3, 16, 9, 1), strided(16, 9, 16, 1)]),
        (150, vec![table(150, 16, 21), table(150, 48, 22), table(150, 8, 23)]),
        (64, vec![strided(1, 2, 16, 2), strided(16, 1, 16, 4), table(64, 2, 24), strided(16, 2, 16, 2)]),
    ]
}

/// Rotations (c, −s; s, c) whose entries are exact in `f32`.
fn rotations(seed: u64, layouts: &[StageLayout]) -> Stages {
    let mut stages = stages(seed, layouts);
    for block in stages.iter_mut().flat_map(|(_, blocks)| blocks.chunks_exact_mut(4)) {
        (block[1], block[3]) = (-block[2], block[0]);
    }
    stages
}

fn all_cases() -> Vec<(usize, Stages)> {
    let number = |(c, (n, layouts)): (usize, (usize, Vec<StageLayout>))| (n, stages(c as u64, &layouts));
    let general = cases().into_iter().chain(pairs()).chain(runs()).chain(large()).enumerate().map(number);
    general.chain(pairs().into_iter().map(|(n, layouts)| (n, rotations(n as u64, &layouts)))).collect()
}

const BATCHES: [usize; 12] = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 70];

fn random<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut g = Generator::new(seed);
    (0..len).map(|_| T::from_wide((g.uniform() * 2.0 - 1.0) as f32 as f64)).collect()
}

/// ‖y − truth‖∞ over one vector in units of eps·(stages·largest block)·‖x‖: what summing products may lose.
fn check<T: Real>(stages: &Stages, x: &[f64], truth: &[f64], y: &[f64], context: &str) {
    let b = stages.iter().map(|(l, _)| l.block_size()).max().unwrap_or(1) as f64;
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    let unit = T::EPS.to_wide() * (stages.len().max(1) as f64) * b.sqrt() * norm;
    let error = truth.iter().zip(y).map(|(t, y)| (t - y).abs()).fold(0.0, f64::max);
    assert!(error <= 1.5 * unit, "{context}: ratio {}", error / unit);
    assert!(y.iter().all(|y| y.is_finite()), "{context}: not all written");
}

fn conformance<T: Real + Element<Scalar = T>>() {
    for (c, (n, stages)) in all_cases().into_iter().enumerate() {
        let plan = plan::<T>(n, &stages);
        let factors = plan.realize::<f64>(&[]).unwrap();
        // A smaller batch is the beginning of the largest one.
        let all = random::<T>(BATCHES[BATCHES.len() - 1] * n, 7);
        let all_wide: Vec<f64> = all.iter().map(|x| x.to_wide()).collect();
        let truths = Op::ALL.map(|op| all_wide.chunks(n.max(1)).map(|x| naive(&stages, x, op)).collect::<Vec<_>>());
        for isa in Isa::available() {
            let mut ws = Workspace::with_isa(isa).unwrap();
            for batch in BATCHES {
                let x = &all[..batch * n];
                for (op, truths) in Op::ALL.into_iter().zip(&truths) {
                    let context = format!("{} case {c} n {n} batch {batch} {isa:?} {op:?}", T::NAME);
                    // Rows out of place, the output NaN before.
                    let mut y = vec![T::nan(); batch * n];
                    fn view<T: Copy>(y: &mut [T], n: usize) -> BatchMut<'_, T> {
                        BatchMut::rows(y, n).unwrap()
                    }
                    plan.apply(&factors, Batch::rows(x, n).unwrap(), view(&mut y, n), op, Parallelism::Rayon, &mut ws)
                        .unwrap();
                    for v in 0..if n == 0 { 0 } else { batch } {
                        let y: Vec<_> = y[v * n..(v + 1) * n].iter().map(|y| y.to_wide()).collect();
                        check::<T>(&stages, &all_wide[v * n..(v + 1) * n], &truths[v], &y, &context);
                    }
                    // Every other way gives the same bits: in place, columns, strides, alone.
                    let mut z = x.to_vec();
                    plan.apply_in_place(&factors, view(&mut z, n), op, Parallelism::None, &mut ws).unwrap();
                    assert!(z == y, "{context}: in place");
                    let mut columns = vec![T::nan(); batch * n];
                    for v in 0..batch {
                        for i in 0..n {
                            columns[i * batch + v] = x[v * n + i];
                        }
                    }
                    let mut out = vec![T::nan(); 2 * batch * n + 1];
                    let from = Batch::columns(&columns, n).unwrap();
                    let to = BatchMut::strided(&mut out[..], batch, n, 2 * n, 2).unwrap();
                    plan.apply(&factors, from, to, op, Parallelism::None, &mut ws).unwrap();
                    for (at, y) in y.iter().enumerate() {
                        assert!(out[2 * at] == *y, "{context}: columns to strides");
                        assert!(out[2 * at + 1].is_nan(), "{context}: wrote between strides");
                    }
                    let from = Batch::strided(&out, batch, n, 2 * n, 2).unwrap();
                    let to = BatchMut::columns(&mut columns, n).unwrap();
                    plan.apply(&factors, from, to, op, Parallelism::None, &mut ws).unwrap();
                    for v in 0..batch {
                        let mut alone = y[v * n..(v + 1) * n].to_vec();
                        plan.apply_in_place(&factors, view(&mut alone, n), op, Parallelism::None, &mut ws).unwrap();
                        for i in 0..n {
                            assert!(alone[i] == columns[i * batch + v], "{context}: neighbours change a vector");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_kernel_and_view_agrees_with_the_definition_f64() {
    conformance::<f64>();
}

#[test]
fn every_kernel_and_view_agrees_with_the_definition_f32() {
    conformance::<f32>();
}

#[test]
fn fused_machines_agree_bit_for_bit() {
    let fused: Vec<_> = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable).collect();
    for (c, (n, stages)) in all_cases().into_iter().enumerate() {
        let plan = plan::<f32>(n, &stages);
        let factors = plan.realize::<f64>(&[]).unwrap();
        let x = random::<f32>(19 * n, 3);
        let results: Vec<_> = fused
            .iter()
            .map(|isa| {
                let (mut y, mut ws) = (x.clone(), Workspace::with_isa(*isa).unwrap());
                let view = BatchMut::rows(&mut y, n).unwrap();
                plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
                y
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "case {c}");
    }
}

/// gx and the gradient of the entries against the definition, for a batch in f64.
#[test]
fn vjp_agrees_with_the_definition() {
    for (c, (n, stages)) in all_cases().into_iter().enumerate() {
        let plan = plan::<f64>(n, &stages);
        let factors = plan.realize::<f64>(&[]).unwrap();
        let (batches, probes) = if n < 500 { (&[0, 1, 5, 33][..], 3) } else { (&[18][..], 1) };
        for batch in batches.iter().copied() {
            let (x, gy) = (random::<f64>(batch * n, 1), random::<f64>(batch * n, 2));
            let of = |v: usize| v * n..(v + 1) * n;
            for op in Op::ALL {
                let back = match op {
                    Op::None => Op::Adjoint,
                    Op::Adjoint => Op::None,
                    Op::Transpose => Op::Conj,
                    Op::Conj => Op::Transpose,
                };
                let gx_truth: Vec<_> = (0..batch).map(|v| naive(&stages, &gy[of(v)], back)).collect();
                // The derivative in every entry is what changes when the entry moves (the product is linear in each).
                let value = |stages: &Stages| -> f64 {
                    let dot = |v| naive(stages, &x[of(v)], op).iter().zip(&gy[of(v)]).map(|(y, g)| y * g).sum::<f64>();
                    (0..batch).map(dot).sum()
                };
                let (mut probe, mut moved) = (Generator::new(9), stages.clone());
                let mut d_truth = Vec::new();
                for (k, stage) in plan.stages().iter().enumerate() {
                    let b = stage.layout().block_size();
                    for _ in 0..probes.min(stage.num_groups()) {
                        let mut below = |count: usize| probe.below(count as u64) as usize;
                        let (g, i, l) = (below(stage.num_groups()), below(b), below(b));
                        let at = g * b * b + i * b + l;
                        let entry = moved[k].1[at];
                        moved[k].1[at] = entry + 1.0;
                        let up = value(&moved);
                        moved[k].1[at] = entry - 1.0;
                        d_truth.push((k, stage.entry(g, i, l), (up - value(&moved)) / 2.0));
                        moved[k].1[at] = entry;
                    }
                }
                for isa in Isa::available() {
                    let mut ws = Workspace::with_isa(isa).unwrap();
                    let context = format!("case {c} n {n} batch {batch} {isa:?} {op:?}");
                    let mut run = |gx: Option<&mut [f64]>, d: Option<&mut [f64]>, parallelism| {
                        let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
                        let out = gx.map(|gx| BatchMut::rows(gx, n).unwrap());
                        plan.apply_vjp(&factors, saved, op, gy, out, d, parallelism, &mut ws).unwrap();
                    };
                    let (mut gx, mut d) = (vec![f64::NAN; batch * n], vec![0.25; plan.num_entries()]);
                    run(Some(&mut gx), Some(&mut d), Parallelism::Rayon);
                    for (v, truth) in gx_truth.iter().enumerate() {
                        check::<f64>(&stages, &gy[of(v)], truth, &gx[of(v)], &context);
                    }
                    let scale = (batch * n) as f64 * 64.0 * f64::EPSILON;
                    for (k, entry, truth) in &d_truth {
                        let got = d[*entry] - 0.25;
                        assert!((got - truth).abs() <= scale, "{context} stage {k}: {got} {truth}");
                    }
                    // Without the gradient of the entries: the same gx; without gx: the same gradient.
                    let (mut gx2, mut d2) = (vec![f64::NAN; batch * n], vec![0.25; plan.num_entries()]);
                    run(Some(&mut gx2), None, Parallelism::None);
                    assert_eq!(gx, gx2, "{context}");
                    run(None, Some(&mut d2), Parallelism::None);
                    assert_eq!(d, d2, "{context}");
                }
            }
        }
    }
}

/// Rows of pairs, of single coordinates or of runs, go backwards along the vector, those of large blocks by their columns; columns of a
/// batch in tiles.
fn gradients_of_rows_and_columns<T: Real + Element<Scalar = T>>() {
    let eps = T::epsilon().to_f64().unwrap();
    let classic = [32, 256, 1024].map(|n| Plan::<T>::new(n, &Butterfly::classic(2), Givens).unwrap());
    let boft = [
        (64, 3, 4),
        (256, 4, 8),
        (1024, 7, 8),
        (1024, 1, 4),
        (4096, 4, 8),
        (96, 3, 8),
        (48, 2, 4),
        (64, 3, 16),
        (128, 2, 32),
        (192, 1, 64),
    ]
    .map(|(n, m, b)| Plan::<T>::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap());
    // Large blocks of neighbours, in several windows where there are many vectors.
    let diagonal =
        [(96, 48), (1024, 16), (1536, 32)].map(|(n, b)| Plan::<T>::new(n, &BlockDiagonal::new(b), Cayley).unwrap());
    // The same as runs of single coordinates.
    let single =
        [16, 32].map(|b| Plan::<T>::from_stages(1024, [(strided(1, b, 1, 1024 / b), Source::chart(Cayley))]).unwrap());
    for plan in classic.into_iter().chain(boft).chain(diagonal).chain(single) {
        let n = plan.n();
        let factors = plan.realize(&random::<f64>(plan.num_params(), 3)).unwrap();
        for (batch, isa) in [1, 5, 16, 150].into_iter().flat_map(|b| Isa::available().into_iter().map(move |i| (b, i)))
        {
            let mut ws = Workspace::with_isa(isa).unwrap();
            let (x, gy) = (random::<T>(batch * n, 1), random::<T>(batch * n, 2));
            let columns =
                |rows: &[T]| -> Vec<T> { (0..n * batch).map(|at| rows[at % batch * n + at / batch]).collect() };
            for op in [Op::None, Op::Adjoint] {
                let mut y = x.clone();
                let view = BatchMut::rows(&mut y, n).unwrap();
                plan.apply_in_place(&factors, view, op, Parallelism::None, &mut ws).unwrap();
                let (mut gx, mut d) = (x.clone(), vec![T::zero(); plan.num_entries()]);
                let (saved, out) = (columns(&x), BatchMut::columns(&mut gx, n).unwrap());
                let saved = Saved::Input(Batch::columns(&saved, n).unwrap());
                let g = columns(&gy);
                let g = Batch::columns(&g, n).unwrap();
                plan.apply_vjp(&factors, saved, op, g, Some(out), Some(&mut d), Parallelism::None, &mut ws).unwrap();
                for reversible in [false, true] {
                    let (mut gx2, mut d2) = (x.clone(), vec![T::zero(); plan.num_entries()]);
                    let saved = if reversible { &y } else { &x };
                    let saved = Batch::rows(saved, n).unwrap();
                    let saved = if reversible { Saved::Output(saved) } else { Saved::Input(saved) };
                    let (g, out) = (Batch::rows(&gy, n).unwrap(), BatchMut::rows(&mut gx2, n).unwrap());
                    plan.apply_vjp(&factors, saved, op, g, Some(out), Some(&mut d2), Parallelism::None, &mut ws)
                        .unwrap();
                    let context = format!("n {n} batch {batch} {isa:?} {op:?} reversible {reversible}");
                    assert!(columns(&gx2) == gx, "{context}"); // bit for bit
                    let error = d.iter().zip(&d2).map(|(a, b)| (*a - *b).to_f64().unwrap().abs()).fold(0.0, f64::max);
                    // Besides the stages the output and the entries are rounded.
                    let ratio = error / ((batch as f64).sqrt() * eps * (plan.num_stages() + 2) as f64);
                    assert!(ratio <= 2.0, "{context}: {ratio}");
                }
            }
        }
    }
}

#[test]
fn gradients_along_the_vector_are_those_in_tiles() {
    gradients_of_rows_and_columns::<f32>();
    gradients_of_rows_and_columns::<f64>();
}

/// Rows of long vectors run in strips, columns in tiles.
fn long_vectors<T: Real + Element<Scalar = T>>() {
    let runs = |n: usize, unit: usize, distances: &[usize]| -> (usize, Vec<StageLayout>) {
        (n, distances.iter().map(|d| strided(unit, 2, *d, n / (2 * d))).collect())
    };
    let pairs = |n: usize, distances: &[usize]| runs(n, 1, distances);
    let up: Vec<usize> = (0..16).map(|k| 1 << k).collect();
    let down: Vec<usize> = up.iter().rev().copied().collect();
    let with_tail = |(n, layouts)| (n + 37, layouts);
    let cases = [
        with_tail(pairs(1 << 16, &up)),
        pairs(1 << 17, &down),
        pairs(3 << 15, &[3 << 13, 3 << 14, 1, 2, 4, 64, 2048, 4096, 8192, 16384]),
        pairs(2 * 40976, &[40976, 1, 16]),    // the last strip is short
        pairs(2 * 40968, &[40968, 20484, 8]), // no whole panels
        with_tail(runs(1 << 16, 4, &[4, 8, 16, 32, 64, 8192, 16384, 4096, 32])),
        runs(3 << 15, 2, &[2, 8, 3 << 13, 3 << 14, 2048]),
        pairs(80 << 10, &[8, 8, 16, 2048]), // short passes of whole spans, the last of them fewer
    ];
    for (c, (n, layouts)) in cases.into_iter().enumerate() {
        for stages in [stages(c as u64, &layouts), rotations(c as u64, &layouts)] {
            let plan = plan::<T>(n, &stages);
            let factors = plan.realize::<f64>(&[]).unwrap();
            // Seventeen vectors are more of the same for every machine but the best.
            let machines = |batch| Isa::available().into_iter().filter(move |isa| batch < 17 || *isa == Isa::detect());
            for (batch, isa) in [1, 3, 17].into_iter().flat_map(|b| machines(b).map(move |i| (b, i))) {
                let mut ws = Workspace::with_isa(isa).unwrap();
                let x = random::<T>(batch * n, 5);
                // (One column is a row.) Two vectors as columns are in a tile.
                let width = batch.max(2);
                let mut columns = vec![T::nan(); n * width];
                for (at, row) in columns.chunks_exact_mut(width).enumerate() {
                    row.iter_mut().enumerate().for_each(|(v, to)| *to = x[v % batch * n + at]);
                }
                for op in [Op::None, Op::Adjoint] {
                    let context = format!("{} case {c} batch {batch} {isa:?} {op:?}", T::NAME);
                    let mut tiles = vec![T::nan(); n * width];
                    let view = BatchMut::columns(&mut tiles, n).unwrap();
                    let from = Batch::columns(&columns, n).unwrap();
                    plan.apply(&factors, from, view, op, Parallelism::None, &mut ws).unwrap();
                    let of = |v: usize| tiles[v..].iter().step_by(width).copied();
                    let truth: Vec<T> = (0..batch).flat_map(of).collect();
                    for threads in [1, 3] {
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                        let (mut y, mut z) = (vec![T::nan(); n * batch], x.clone());
                        pool.install(|| {
                            let (from, to) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
                            plan.apply(&factors, from, to, op, Parallelism::Rayon, &mut ws).unwrap();
                            let view = BatchMut::rows(&mut z, n).unwrap();
                            plan.apply_in_place(&factors, view, op, Parallelism::Rayon, &mut ws).unwrap();
                        });
                        assert!(y == truth, "{context} {threads} threads");
                        assert!(z == truth, "{context} {threads} threads, in place");
                    }
                }
            }
        }
    }
}

#[test]
fn long_vectors_have_the_bits_of_tiles() {
    long_vectors::<f32>();
    long_vectors::<f64>();
}

/// Rows go through blocks section by section of their coordinates, whoever runs them; columns in tiles.
#[test]
fn sections_have_the_bits_of_tiles() {
    let runs = |n: usize, unit: usize, distances: &[usize], tail: usize| -> (usize, Vec<StageLayout>) {
        (n + tail, distances.iter().map(|d| strided(unit, 2, *d, n / (2 * d))).collect())
    };
    let cases = [
        runs(4096, 4, &[4, 8, 16, 32], 21),
        runs(4096, 4, &[32, 4, 8, 64], 0),
        runs(8192, 2, &[2, 4, 8], 5),
        runs(8 * 701, 4, &[4], 0), // the last window of the last section is not full
        (40, vec![strided(4, 2, 4, 0)]),
    ];
    for (c, (n, layouts)) in cases.into_iter().enumerate() {
        let plan = plan::<f32>(n, &stages(c as u64, &layouts));
        let factors = plan.realize::<f64>(&[]).unwrap();
        for (batch, isa) in [41, 600].into_iter().flat_map(|b| Isa::available().into_iter().map(move |i| (b, i))) {
            if batch > 41 && isa != Isa::detect() {
                continue; // more of the same
            }
            let mut ws = Workspace::with_isa(isa).unwrap();
            let (x, gy) = (random::<f32>(batch * n, 1), random::<f32>(batch * n, 2));
            let columns =
                |rows: &[f32]| -> Vec<f32> { (0..n * batch).map(|at| rows[at % batch * n + at / batch]).collect() };
            for (op, back) in [(Op::None, Op::Adjoint), (Op::Adjoint, Op::None)] {
                let context = format!("case {c} batch {batch} {isa:?} {op:?}");
                let mut tiles = columns(&x);
                let view = BatchMut::columns(&mut tiles, n).unwrap();
                plan.apply_in_place(&factors, view, op, Parallelism::None, &mut ws).unwrap();
                let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
                for (threads, parallelism) in [(1, Parallelism::None), (1, Parallelism::Rayon), (3, Parallelism::Rayon)]
                {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let (mut y, mut z, mut gx) = (vec![f32::NAN; n * batch], x.clone(), vec![f32::NAN; n * batch]);
                    let mut d = vec![0f32; plan.num_entries()];
                    pool.install(|| {
                        let (from, to) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
                        plan.apply(&factors, from, to, op, parallelism, &mut ws).unwrap();
                        let view = BatchMut::rows(&mut z, n).unwrap();
                        plan.apply_in_place(&factors, view, op, parallelism, &mut ws).unwrap();
                        let (saved, gy) = (Saved::Input(from), Batch::rows(&gy, n).unwrap());
                        let out = Some(BatchMut::rows(&mut gx, n).unwrap());
                        plan.apply_vjp(&factors, saved, op, gy, out, Some(&mut d), parallelism, &mut ws).unwrap();
                    });
                    assert!(columns(&y) == tiles && z == y, "{context} {threads} threads");
                    let (gx_first, d_first) = first.get_or_insert_with(|| (gx.clone(), d.clone()));
                    assert!(gx == *gx_first && d == *d_first, "{context} {threads} threads");
                }
                let mut g = columns(&gy);
                let view = BatchMut::columns(&mut g, n).unwrap();
                plan.apply_in_place(&factors, view, back, Parallelism::None, &mut ws).unwrap();
                let (gx, d) = first.unwrap();
                assert!(columns(&gx) == g, "{context}: gx");
                // Few vectors have neither partial gradients nor others before them.
                let (mut truth, mut out) = (vec![0f32; plan.num_entries()], vec![0f32; 8 * n]);
                for (x, gy) in x.chunks(8 * n).zip(gy.chunks(8 * n)) {
                    let (saved, gy) = (Saved::Input(Batch::rows(x, n).unwrap()), Batch::rows(gy, n).unwrap());
                    let out = Some(BatchMut::rows(&mut out[..x.len()], n).unwrap());
                    plan.apply_vjp(&factors, saved, op, gy, out, Some(&mut truth), Parallelism::None, &mut ws).unwrap();
                }
                let error = d.iter().zip(&truth).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                let ratio = error / ((batch as f64).sqrt() * f64::from(f32::EPSILON) * (plan.num_stages() + 2) as f64);
                assert!(ratio <= 2.0, "{context}: {ratio}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let n = 256;
    let pairs: Vec<_> = (0..7).map(|k| strided(1, 2, 1 << k, n >> (k + 1))).collect();
    let mixed: Vec<_> = pairs.iter().cloned().chain([table(n, 8, 1)]).collect();
    let (x, gy) = (random::<f32>(999 * n, 1), random::<f32>(999 * n, 2));
    let run = |layouts: &[StageLayout], threads: usize, parallelism: Parallelism| {
        let plan = plan::<f32>(n, &stages(1, layouts));
        let factors = plan.realize::<f64>(&[]).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut ws = Workspace::new();
            let (mut y, mut gx, mut d) = (x.clone(), x.clone(), vec![0f32; plan.num_entries()]);
            let view = BatchMut::rows(&mut y, n).unwrap();
            plan.apply_in_place(&factors, view, Op::None, parallelism, &mut ws).unwrap();
            let (saved, gy) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
            let out = Some(BatchMut::rows(&mut gx, n).unwrap());
            plan.apply_vjp(&factors, saved, Op::None, gy, out, Some(&mut d), parallelism, &mut ws).unwrap();
            (y, gx, d)
        })
    };
    let runs: Vec<_> = (0..5).map(|k| strided(4, 2, 4 << k, n >> (k + 3))).collect();
    let large = vec![strided(32, 1, 32, n / 32), strided(16, 2, 32, n / 64)];
    for layouts in [pairs, mixed, runs, large] {
        let one = run(&layouts, 1, Parallelism::Rayon);
        assert!(one == run(&layouts, 4, Parallelism::Rayon) && one == run(&layouts, 3, Parallelism::Rayon));
        assert!(one == run(&layouts, 1, Parallelism::None));
    }
}

#[test]
fn wrong_shapes_are_errors_and_nothing_is_written() {
    let plan = plan::<f64>(4, &stages(0, &[strided(2, 2, 2, 1)]));
    let other = self::plan::<f64>(4, &stages(0, &[strided(2, 1, 2, 2), strided(2, 1, 2, 2)]));
    let factors = plan.realize::<f64>(&[]).unwrap();
    let wrong = other.realize::<f64>(&[]).unwrap();
    let mut ws = Workspace::new();
    let x = vec![1.0; 12];
    let mut y = vec![7.0; 15];
    let three = Batch::rows(&x, 4).unwrap();
    let mut run = |f: &_, x, y: BatchMut<'_, f64>| plan.apply(f, x, y, Op::None, Parallelism::None, &mut ws);
    assert!(matches!(run(&factors, three, BatchMut::rows(&mut y[..8], 4).unwrap()), Err(Error::Length { .. })));
    assert!(matches!(run(&factors, three, BatchMut::rows(&mut y, 5).unwrap()), Err(Error::Length { .. })));
    let five = Batch::strided(&x, 3, 3, 4, 1).unwrap();
    assert!(matches!(run(&factors, five, BatchMut::rows(&mut y[..12], 4).unwrap()), Err(Error::Length { .. })));
    assert!(matches!(run(&wrong, three, BatchMut::rows(&mut y[..12], 4).unwrap()), Err(Error::Size { .. })));
    assert!(y.iter().all(|y| *y == 7.0));
    let saved = Saved::Output(three);
    let error = plan.apply_vjp(&factors, saved, Op::None, three, None, None, Parallelism::None, &mut ws);
    assert!(matches!(error, Err(Error::Unsupported { .. })));
    let mut d = vec![0.0; 3];
    let saved = Saved::Input(three);
    let error = plan.apply_vjp(&factors, saved, Op::None, three, None, Some(&mut d), Parallelism::None, &mut ws);
    assert!(matches!(error, Err(Error::Length { what: "d_factors", .. })));
}

#[test]
fn a_nan_stays_in_its_block_and_vector() {
    let plan = plan::<f32>(8, &stages(0, &[strided(2, 2, 2, 2)]));
    let factors = plan.realize::<f64>(&[]).unwrap();
    for batch in [2, 20] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut y = vec![1.0f32; batch * 8];
            y[9] = bad; // vector 1, coordinate 1
            let view = BatchMut::rows(&mut y, 8).unwrap();
            plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut Workspace::new()).unwrap();
            for (at, y) in y.iter().enumerate() {
                assert_eq!(!y.is_finite(), (8..12).contains(&at), "{at}: {y}");
            }
        }
    }
    fn wide_is_double<W: Wide>() -> usize {
        size_of::<W>()
    }
    assert_eq!(wide_is_double::<<f32 as Scalar>::Wide>(), 8);
}

/// Views made from raw parts: the identical view works in place, interleaved halves of one matrix work, any other
/// overlap is refused before anything is written; negative strides read backwards.
#[test]
#[allow(unsafe_code)] // aliased views cannot be made without it
fn aliased_views_behave_as_documented() {
    let (n, batch) = (6, 20);
    let stages = stages(3, &[strided(3, 2, 3, 1), table(6, 4, 1)]);
    let plan = plan::<f64>(n, &stages);
    let factors = plan.realize::<f64>(&[]).unwrap();
    let x = random::<f64>(batch * 2 * n, 5);
    for batch in [1, 3, batch] {
        let mut ws = Workspace::new();
        let mut truth = vec![0.0; batch * n];
        let from = Batch::strided(&x, batch, n, 2 * n, 1).unwrap();
        let to = BatchMut::rows(&mut truth, n).unwrap();
        plan.apply(&factors, from, to, Op::None, Parallelism::None, &mut ws).unwrap();
        let vector = |memory: &[f64], v: usize, at: usize| memory[v * 2 * n + at..][..n].to_vec();

        let mut memory = x.clone();
        let p = memory.as_mut_ptr();
        let stride = 2 * n as isize;
        // SAFETY: both views stay inside `memory`, whose `Vec` is not touched while they live.
        let view = |at: usize, stride: isize| unsafe {
            let read = Batch::<f64>::from_raw_parts(p.add(at), batch, n, stride, 1);
            (read, BatchMut::<f64>::from_raw_parts(p.add(at), batch, n, stride, 1).unwrap())
        };
        // Shifted by one coordinate, or the same rows in reverse (one row in reverse is the identical row): refused.
        let reverse = (batch - 1) * 2 * n;
        for (other, refuse) in [(view(1, stride).1, true), (view(reverse, -stride).1, batch > 1)] {
            if refuse {
                let result = plan.apply(&factors, view(0, stride).0, other, Op::None, Parallelism::None, &mut ws);
                assert!(matches!(result, Err(Error::Overlap { .. })), "{result:?}");
            }
        }
        assert_eq!(memory, x);
        // Left half to right half.
        plan.apply(&factors, view(0, stride).0, view(n, stride).1, Op::None, Parallelism::Rayon, &mut ws).unwrap();
        for v in 0..batch {
            assert_eq!(vector(&memory, v, n), truth[v * n..(v + 1) * n]);
            assert_eq!(vector(&memory, v, 0), vector(&x, v, 0));
        }
        // In place.
        let (read, write) = view(0, stride);
        plan.apply(&factors, read, write, Op::None, Parallelism::Rayon, &mut ws).unwrap();
        for v in 0..batch {
            assert_eq!(vector(&memory, v, 0), truth[v * n..(v + 1) * n]);
        }
        // Backwards: the last row first.
        memory.copy_from_slice(&x);
        plan.apply(
            &factors,
            view(reverse, -stride).0,
            view(reverse + n, -stride).1,
            Op::None,
            Parallelism::None,
            &mut ws,
        )
        .unwrap();
        for v in 0..batch {
            assert_eq!(vector(&memory, v, n), truth[v * n..(v + 1) * n]);
        }
    }
}

/// However stages are joined to passes, the bits are those of one stage after the other.
#[test]
fn passes_keep_the_bits_of_single_stages() {
    for (seed, (n, layouts)) in cases().into_iter().enumerate() {
        let stages = stages(seed as u64, &layouts);
        let whole = plan::<f32>(n, &stages);
        let batch = 37;
        let mut g = Generator::new(5);
        let x: Vec<f32> = (0..n * batch).map(|_| g.uniform() as f32 - 0.5).collect();
        for isa in Isa::available() {
            let mut ws = Workspace::with_isa(isa).unwrap();
            let mut run = |plan: &Plan<f32>, y: &mut Vec<f32>| {
                let factors = plan.realize::<f64>(&[]).unwrap();
                let view = BatchMut::rows(y, n).unwrap();
                plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
            };
            let (mut together, mut apart) = (x.clone(), x.clone());
            run(&whole, &mut together);
            for stage in &stages {
                run(&plan(n, &vec![stage.clone()]), &mut apart);
            }
            assert_eq!(together, apart, "{layouts:?} {isa:?}");
        }
    }
}
