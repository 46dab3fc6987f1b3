//! Properties over random plans, views and numbers. Needs the feature `proptest`.

use papilio::verify::{adjoint, certificate, dense, isometry, strategies};
use papilio::{
    Batch, BatchMut, Error, Isa, Op, Parallelism, Plan, Saved, Scalar, Source, Stage, StageLayout, Topology, Workspace,
    topology,
};
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

fn op() -> impl Strategy<Value = Op> {
    proptest::sample::select(&Op::ALL[..])
}

fn isa() -> impl Strategy<Value = Isa> {
    proptest::sample::select(Isa::available())
}

/// A batch in memory with gaps: batch, strides (batch, element) that keep elements apart, rows or columns outermost.
fn strides(n: usize) -> impl Strategy<Value = (usize, usize, usize)> {
    (0..=40usize, 1..=3usize, 0..=3usize, any::<bool>()).prop_map(move |(batch, inner, gap, rows)| {
        if rows { (batch, n * inner + gap, inner) } else { (batch, inner, batch.max(1) * inner + gap) }
    })
}

fn memory(n: usize, (batch, b, e): (usize, usize, usize)) -> usize {
    if batch == 0 { 0 } else { (batch - 1) * b + (n - 1) * e + 1 }
}

/// Stages, or reflections where a stage is a product of them.
fn depth<T: Scalar>(plan: &Plan<T>) -> usize {
    let depth = |stage: &Stage<T>| match stage.source() {
        Source::Reflectors { count, .. } => *count,
        _ => 1,
    };
    plan.stages().iter().map(depth).sum::<usize>().max(plan.num_stages())
}

/// Sizes at which kernels cut vectors and batches: up to some thousand coordinates and some hundred vectors, blocks of every way
/// to hold them, stages side by side or apart, coordinates left over.
fn long() -> impl Strategy<Value = (usize, Vec<StageLayout>, usize)> {
    const MOST: usize = 3000;
    let units: [(usize, usize); 13] =
        [(1, 2), (2, 2), (4, 2), (8, 2), (16, 2), (32, 2), (1, 3), (3, 2), (1, 4), (1, 8), (1, 16), (1, 32), (8, 3)];
    let diagonal = [2, 3, 8, 16, 24, 32, 48, 64].map(|unit| (unit, 1));
    let shape = proptest::sample::select([&units[..], &diagonal[..]].concat());
    let batch = proptest::sample::select(vec![1usize, 3, 17, 33, 48, 49, 97, 150]);
    (shape, 1..=5u32, 1..=MOST, 0..=9usize, batch).prop_map(|((unit, radix), stages, copies, tail, batch)| {
        let stages =
            (1..=if radix == 1 { 1 } else { stages }).rev().find(|m| unit * radix.pow(*m) <= MOST).unwrap_or(1);
        let span = unit * radix.pow(stages);
        let n = span * (1 + copies % (MOST / span).max(1));
        let stage = |k| {
            let distance = unit * radix.pow(k);
            StageLayout::Strided { unit, radix, distance, groups: n / (radix * distance) }
        };
        (n + tail, (0..stages).map(stage).collect(), batch)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..config() })]

    /// The output is linear in the entries of each stage, so Σ entries·∂entries = Σ y·∂y; and the gradient of a batch is the sum of
    /// those of its vectors, three at a time.
    #[test]
    fn gradients_of_long_vectors((n, layouts, batch) in long(), op in op(), isa in isa(), from_output: bool, seed: u64) {
        let mut g = papilio::generator::Generator::new(seed);
        let mut random = |len: usize| (0..len).map(|_| (2.0 * g.uniform() - 1.0) as f32).collect::<Vec<_>>();
        let cayley = || Source::chart(papilio::parametrization::Cayley);
        let plan = Plan::<f32>::from_stages(n, layouts.into_iter().map(|layout| (layout, cayley()))).unwrap();
        let factors = plan.realize(&random(plan.num_params())).unwrap();
        let (x, gy) = (random(n * batch), random(n * batch));
        let (mut y, mut gx, mut d) = (x.clone(), vec![f32::NAN; n * batch], vec![0f32; plan.num_entries()]);
        let mut ws = Workspace::with_isa(isa).unwrap();
        plan.apply_in_place(&factors, BatchMut::rows(&mut y, n).unwrap(), op, Parallelism::Rayon, &mut ws).unwrap();
        let saved = |x, y| {
            let rows = |data| Batch::rows(data, n).unwrap();
            if from_output { Saved::Output(rows(y)) } else { Saved::Input(rows(x)) }
        };
        let (rows, out) = (Batch::rows(&gy, n).unwrap(), Some(BatchMut::rows(&mut gx, n).unwrap()));
        plan.apply_vjp(&factors, saved(&x, &y), op, rows, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let size = |a: &[f32]| dot(a, a).sqrt();
        let unit = f64::from(f32::EPSILON) * (1 + plan.num_stages()) as f64;
        let (value, most) = (dot(&gy, &y), unit * size(&gy) * size(&y));
        prop_assert!((dot(&gx, &x) - value).abs() <= most);
        let mut sum = vec![0f32; plan.num_entries()];
        for v in (0..batch).step_by(3) {
            let of = v * n..(v + 3).min(batch) * n;
            let rows = Batch::rows(&gy[of.clone()], n).unwrap();
            let saved = saved(&x[of.clone()], &y[of]);
            plan.apply_vjp(&factors, saved, op, rows, None, Some(&mut sum), Parallelism::None, &mut ws).unwrap();
        }
        for stage in plan.stages() {
            let r = stage.entries();
            let rest = value - (0..batch).flat_map(|v| v * n + stage.layout().block_size() * stage.layout().num_blocks()..(v + 1) * n)
                .map(|at| f64::from(gy[at]) * f64::from(y[at])).sum::<f64>(); // what no block touches
            let part = dot(&d[r.clone()], &factors.entries()[r]);
            prop_assert!((part - rest).abs() <= 4.0 * most, "{part} {rest}");
        }
        let largest = sum.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (d, sum) in d.iter().zip(&sum) {
            prop_assert!(f64::from((d - sum).abs()) <= 4.0 * unit * f64::from(largest), "{d} {sum}");
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn apply_is_the_dense_product(
        ((plan, theta), op, isa, from, to, seed) in strategies::plan_and_theta::<f64>().prop_flat_map(|case| {
            let n = case.0.n();
            (Just(case), op(), isa(), strides(n), strides(n), any::<u32>())
        })
    ) {
        let n = plan.n();
        let (from, to) = (from, (from.0, to.1.max(to.2), to.2));
        // Columns of the output need room for the input's batch.
        let to = if to.1 < to.2 { (to.0, to.1, to.0.max(1) * to.1) } else { (to.0, to.1.max(n * to.2), to.2) };
        let factors = plan.realize(&theta).unwrap();
        let value = |v: usize, i: usize| f64::from((seed.wrapping_mul(2_654_435_761).wrapping_add((v * n + i) as u32 * 40_503)) >> 8) / 1e7 - 0.8;
        let mut x = vec![f64::NAN; memory(n, from)];
        for v in 0..from.0 {
            for i in 0..n {
                x[v * from.1 + i * from.2] = value(v, i);
            }
        }
        let mut y = vec![-7.0; memory(n, to)];
        let mut ws = Workspace::with_isa(isa).unwrap();
        let input = Batch::strided(&x, from.0, n, from.1, from.2).unwrap();
        let output = BatchMut::strided(&mut y, to.0, n, to.1, to.2).unwrap();
        plan.apply(&factors, input, output, op, Parallelism::Rayon, &mut ws).unwrap();
        let packed: Vec<f64> = (0..from.0).flat_map(|v| (0..n).map(move |i| value(v, i))).collect();
        let truth = dense::apply(&plan, &factors, &packed, op).unwrap();
        let mut written = vec![false; y.len()];
        for v in 0..to.0 {
            let norm = packed[v * n..(v + 1) * n].iter().map(|x| x * x).sum::<f64>().sqrt();
            for i in 0..n {
                let at = v * to.1 + i * to.2;
                written[at] = true;
                let error = (y[at] - truth[v * n + i]).abs();
                let unit = f64::EPSILON * (depth(&plan) + 1) as f64 * (n as f64).sqrt() * norm;
                prop_assert!(error <= unit, "{} units", error / unit);
            }
        }
        prop_assert!(written.iter().zip(&y).all(|(written, y)| *written || *y == -7.0), "wrote outside the view");
    }

    #[test]
    fn adjoint_inverts_and_certificate_bounds((plan, theta) in strategies::plan_and_theta::<f32>(), seed: u64) {
        let factors = plan.realize(&theta).unwrap();
        let proof = certificate(&plan, &factors).unwrap();
        // A lower bound of the 2-norm: the largest entry.
        let largest = dense::defect(&plan, &factors).unwrap().iter().fold(0.0, |m: f64, e| m.max(e.abs()));
        // What stored vectors reflect is orthogonal exactly; the dense product is as good as f64's square.
        prop_assert!(proof.defect >= largest - 1e-30, "{} < {largest}", proof.defect);
        let limit = 2.0 + depth(&plan) as f64 - plan.num_stages() as f64;
        prop_assert!(adjoint(&plan, &factors, seed).unwrap() <= limit);
        for op in Op::ALL {
            prop_assert!(isometry(&plan, &factors, op, seed).unwrap().norm <= limit);
        }
    }

    #[test]
    fn scaling_by_powers_of_two_commutes_down_to_denormals(
        (plan, theta) in strategies::plan_and_theta::<f64>(), exponent in -1070i32..=900, batch in 1..20usize,
    ) {
        let (n, factors) = (plan.n(), plan.realize(&theta).unwrap());
        let mut ws = Workspace::new();
        let x: Vec<f64> = (0..batch * n).map(|i| ((i * 37 % 101) as f64 - 50.0) / 64.0).collect();
        let scale = |k: i32| if k < -1000 { 2f64.powi(-1000) * 2f64.powi(k + 1000) } else { 2f64.powi(k) };
        let mut small: Vec<f64> = x.iter().map(|x| x * scale(exponent)).collect();
        let exact = small.iter().zip(&x).all(|(s, x)| s / scale(exponent) == *x);
        prop_assume!(exact);
        let mut y = x;
        for data in [&mut small, &mut y] {
            let view = BatchMut::rows(data, n).unwrap();
            plan.apply_in_place(&factors, view, Op::None, Parallelism::None, &mut ws).unwrap();
        }
        let largest = y.iter().fold(1e-300, |m: f64, y| m.max(y.abs()));
        for (s, y) in small.iter().zip(&y) {
            // Each stage may round to a multiple of the smallest denormal, once per term.
            let grain = 5e-324 * (plan.num_stages() * 16 * n.max(1)) as f64;
            let error = (s - y * scale(exponent)).abs();
            prop_assert!(error <= f64::EPSILON * 16.0 * largest * scale(exponent) + grain, "{s} {y}");
        }
    }

    #[test]
    fn a_bad_number_stays_in_its_vector(
        (plan, theta) in strategies::plan_and_theta::<f32>(),
        bad in proptest::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        batch in 2..40usize, at in any::<proptest::sample::Index>(), op in op(),
    ) {
        let (n, factors) = (plan.n(), plan.realize(&theta).unwrap());
        let mut x = vec![0.5f32; batch * n];
        let mut clean = x.clone();
        let at = at.index(x.len());
        x[at] = bad;
        let mut ws = Workspace::new();
        for data in [&mut x, &mut clean] {
            let view = BatchMut::rows(data, n).unwrap();
            plan.apply_in_place(&factors, view, op, Parallelism::None, &mut ws).unwrap();
        }
        for v in (0..batch).filter(|v| *v != at / n) {
            prop_assert!(x[v * n..(v + 1) * n] == clean[v * n..(v + 1) * n]);
        }
        prop_assert!(x[at / n * n..][..n].iter().any(|x| !x.is_finite()));
    }

    #[test]
    fn gradients_pair_with_derivatives((plan, theta) in strategies::plan_and_theta::<f64>(), op in op(), batch in 0..20usize) {
        // <gy, Q x> = <gx, x>, and it is <dQ-gradient, Q> summed over stages' entries / stage count: linear in each stage.
        let (n, factors) = (plan.n(), plan.realize(&theta).unwrap());
        let wave = |k: usize| (0..batch * n).map(|i| ((i * k) as f64).sin()).collect::<Vec<_>>();
        let (x, gy, mut y, mut gx) = (wave(3), wave(7), vec![0.0; batch * n], vec![f64::NAN; batch * n]);
        let mut d = vec![0.0; plan.num_entries()];
        let mut ws = Workspace::new();
        let view = |data| Batch::rows(data, n).unwrap();
        let out = BatchMut::rows(&mut y, n).unwrap();
        plan.apply(&factors, view(&x), out, op, Parallelism::None, &mut ws).unwrap();
        let out = Some(BatchMut::rows(&mut gx, n).unwrap());
        let saved = Saved::Input(view(&x));
        plan.apply_vjp(&factors, saved, op, view(&gy), out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let value = dot(&gy, &y);
        let unit = f64::EPSILON * (1 + batch * n) as f64 * (1 + plan.num_stages()) as f64;
        prop_assert!((dot(&gx, &x) - value).abs() <= unit);
        let linear = |s: &&Stage<f64>| {
            s.layout().num_blocks() * s.layout().block_size() == n && !matches!(s.source(), Source::Reflectors { .. })
        };
        for stage in plan.stages().iter().filter(linear) {
            let r = stage.entries();
            let part = dot(&d[r.clone()], &factors.entries()[r]);
            prop_assert!((part - value).abs() <= 4.0 * unit, "{part} {value}");
        }
    }

    #[test]
    fn no_size_makes_a_topology_panic(n: usize, unit: usize, radix: usize, stages: Option<usize>, small in 0..70usize) {
        for n in [n, small] {
            for (unit, radix) in [(unit, radix), (unit % 9, radix % 9)] {
                let butterfly = topology::Butterfly { unit, radix, stages: stages.map(|s| s % 70) };
                if let Ok(m) = butterfly.num_stages(n) {
                    for k in 0..m {
                        prop_assert!(butterfly.stage(n, k).validate(n).is_ok());
                    }
                }
                let _ = topology::BlockDiagonal::new(unit).num_stages(n);
                let layout = StageLayout::Strided { unit, radix, distance: n, groups: small };
                let _ = layout.validate(n);
            }
        }
    }
}

#[test]
fn plans_too_large_for_memory_are_errors() {
    assert!(Plan::<f64>::new(1 << 33, &topology::BlockDiagonal::new(8), papilio::parametrization::Cayley).is_err());
    for n in [u32::MAX as usize, 1 << 31] {
        let dense = topology::BlockDiagonal::new(n);
        let error = Plan::<f64>::new(n, &dense, papilio::parametrization::Cayley).unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{error}");
    }
}
