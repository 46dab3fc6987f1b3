//! Gradients of every chart on every topology through every op, against fourth-order central differences.

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Charts, Givens};
use papilio::topology::{Benes, BlockDiagonal, Butterfly, Explicit};
use papilio::verify::{plan_gradient, plan_tangent};
use papilio::{
    Batch, BatchMut, Element, Isa, Op, Parallelism, Parametrization, Plan, Real, Result, Saved, Sharing, Source,
    StageLayout, Topology, Workspace,
};

const BOUND: f64 = 1e-9;

fn normal(len: usize, seed: u64) -> Vec<f64> {
    let mut g = Generator::new(seed);
    // Box–Muller.
    (0..len).map(|_| (-2.0 * (1.0 - g.uniform()).ln()).sqrt() * (std::f64::consts::TAU * g.uniform()).cos()).collect()
}

fn plans() -> Vec<(String, Plan<f64>)> {
    let table = |n: usize, b: usize, seed| {
        let mut index: Vec<usize> = (0..n).collect();
        Generator::new(seed).shuffle(&mut index);
        index.truncate(n / b * b);
        (b, index)
    };
    let topologies: Vec<(usize, usize, Box<dyn Topology>)> = vec![
        (1, 1, Box::new(BlockDiagonal::new(1))),
        (7, 7, Box::new(BlockDiagonal::new(7))),
        (12, 2, Box::new(BlockDiagonal::new(2))),
        (12, 4, Box::new(BlockDiagonal::new(4))),
        (1, 2, Box::new(Butterfly::classic(2))),
        (32, 2, Box::new(Butterfly::classic(2))),
        (27, 3, Box::new(Butterfly::classic(3))),
        (64, 8, Box::new(Butterfly::classic(8))),
        (32, 4, Box::new(Butterfly::boft(4, 4).unwrap())),
        (24, 6, Box::new(Butterfly::boft(3, 6).unwrap())),
        (40, 2, Box::new(Butterfly::boft(3, 2).unwrap())),
        (17, 2, Box::new(Explicit::new(17, [table(17, 2, 1), table(17, 2, 2)]).unwrap())),
        (13, 3, Box::new(Explicit::new(13, [table(13, 3, 3), table(13, 3, 4), table(13, 3, 5)]).unwrap())),
        (20, 16, Box::new(Explicit::new(20, [table(20, 16, 6), table(20, 16, 7)]).unwrap())),
    ];
    let charts = Charts::<f64>::new();
    let mut plans = Vec::new();
    for (n, b, topology) in &topologies {
        for chart in charts.iter().filter(|chart| chart.num_params(*b).is_ok()) {
            let name = format!("{} {} n={n} b={b}", chart.id(), topology.name());
            plans.push((name, Plan::new(*n, topology.as_ref(), chart.clone()).unwrap()));
        }
    }
    // Shared parameters, fixed blocks in between, composition and adjoints.
    let shared = |sharing| Source::Chart { chart: Arc::new(Cayley), sharing };
    let layout = |b: usize| BlockDiagonal::new(b).stage(12, 0);
    let fixed = Source::Fixed(normal(12 * 4, 8).into());
    let mixed = Plan::from_stages(
        12,
        [
            (layout(3), shared(Sharing::All)),
            (layout(4), fixed),
            (layout(2), shared(Sharing::Groups([0, 1, 1, 0, 2, 0].into()))),
        ],
    )
    .unwrap();
    let composed =
        mixed.clone().then(Plan::new(12, &Butterfly::boft(2, 6).unwrap(), Cayley).unwrap().adjoint()).unwrap();
    plans.extend([("shared and fixed".to_string(), mixed), ("composed".into(), composed.clone())]);
    plans.push(("adjoint of composed".into(), composed.adjoint()));
    plans
}

#[test]
fn every_chart_topology_and_op() {
    let mut worst = 0f64;
    for (name, plan) in plans() {
        let theta = normal(plan.num_params(), 11);
        for op in Op::ALL {
            let gradient = plan_gradient(&plan, &theta, op, 5).unwrap();
            worst = worst.max(gradient.theta).max(gradient.x);
            assert!(gradient.theta <= BOUND && gradient.x <= BOUND, "{name} {op:?}: {gradient:?}");
        }
    }
    println!("largest relative error of a gradient: {worst:e}");
}

/// Directional derivatives are the adjoints of gradients.
#[test]
fn pushforwards_are_adjoint_to_pullbacks() {
    let mut worst = 0f64;
    for (name, plan) in plans() {
        let theta = normal(plan.num_params(), 11);
        for op in Op::ALL {
            let gap = plan_tangent(&plan, &theta, op, 6).unwrap();
            worst = worst.max(gap);
            assert!(gap <= 32.0 * f64::EPSILON, "{name} {op:?}: {gap:e}");
        }
    }
    println!("largest gap between a pushforward and a pullback: {worst:e}");
}

/// Any number of vectors and threads, single precision, wrong arguments.
#[test]
fn directions_in_batches() {
    let (n, batch) = (40, 37);
    let plan = Plan::<f32>::new(n, &BlockDiagonal::new(5), Cayley).unwrap();
    let theta = normal(plan.num_params(), 1);
    let (d_theta, factors) = (normal(plan.num_params(), 2), plan.realize(&theta).unwrap());
    let single = |v: Vec<f64>| v.iter().map(|x| *x as f32).collect::<Vec<_>>();
    let (x, dx) = (single(normal(n * batch, 3)), single(normal(n * batch, 4)));
    let mut d_factors = vec![f32::NAN; plan.num_entries()];
    plan.realize_jvp(&theta, &factors, &d_theta, &mut d_factors).unwrap();
    let run = |rows: std::ops::Range<usize>, par| {
        let at = rows.start * n..rows.end * n;
        let (mut dy, mut ws) = (vec![f32::NAN; at.len()], Workspace::new());
        let (x, dx) = (Batch::rows(&x[at.clone()], n).unwrap(), Batch::rows(&dx[at], n).unwrap());
        let out = BatchMut::rows(&mut dy, n).unwrap();
        plan.apply_jvp(&factors, x, Op::Adjoint, Some(dx), Some(&d_factors), out, par, &mut ws).unwrap();
        dy
    };
    let all = run(0..batch, Parallelism::Rayon);
    assert_eq!(all, run(0..batch, Parallelism::None));
    for v in [0, 1, 17, 36] {
        assert_eq!(all[v * n..(v + 1) * n], run(v..v + 1, Parallelism::None), "vector {v} alone");
    }
    // Central differences along the direction, in double precision.
    let double = Plan::<f64>::new(n, &BlockDiagonal::new(5), Cayley).unwrap();
    let h = 1e-3;
    let at = |t: f64| {
        let theta: Vec<f64> = theta.iter().zip(&d_theta).map(|(a, d)| a + t * d).collect();
        let factors = double.realize(&theta).unwrap();
        let mut y: Vec<f64> = x.iter().zip(&dx).map(|(x, d)| f64::from(*x) + t * f64::from(*d)).collect();
        let out = BatchMut::rows(&mut y, n).unwrap();
        double.apply_in_place(&factors, out, Op::Adjoint, Parallelism::None, &mut Workspace::new()).unwrap();
        y
    };
    let (a, b, c, d) = (at(-2.0 * h), at(-h), at(h), at(2.0 * h));
    for i in 0..n * batch {
        let slope = (8.0 * (c[i] - b[i]) - (d[i] - a[i])) / (12.0 * h);
        assert!((slope - f64::from(all[i])).abs() <= 3e-5, "{i}: {slope} {}", all[i]);
    }

    let mut ws = Workspace::new();
    let mut dy = vec![7.0f32; n];
    let x = Batch::rows(&x[..n], n).unwrap();
    let two = Some(Batch::rows(&dx[..2 * n], n).unwrap());
    let mut wrong = |dx, d: Option<&[f32]>| {
        let out = BatchMut::rows(&mut dy, n).unwrap();
        plan.apply_jvp(&factors, x, Op::None, dx, d, out, Parallelism::None, &mut ws).unwrap_err()
    };
    assert!(matches!(wrong(two, None), papilio::Error::Length { what: "batch of dx", expected: 1, got: 2 }));
    assert!(matches!(wrong(None, Some(&d_factors[1..])), papilio::Error::Length { what: "d_factors", .. }));
    assert_eq!(dy, [7.0; 40]);
    assert!(plan.realize_jvp(&theta, &factors, &d_theta[1..], &mut d_factors).is_err());
}

/// The output tells as much as the input where every stage is exactly orthogonal.
#[test]
fn gradient_from_the_output_is_the_gradient_from_the_input() {
    for (name, plan) in plans().into_iter().filter(|(_, plan)| plan.is_exact()) {
        let (n, batch) = (plan.n(), 9);
        let factors = plan.realize(&normal(plan.num_params(), 1)).unwrap();
        let (x, gy, mut ws) = (normal(n * batch, 2), normal(n * batch, 3), Workspace::new());
        for op in Op::ALL {
            let mut y = vec![f64::NAN; n * batch];
            let view = |data| Batch::rows(data, n).unwrap();
            let out = BatchMut::rows(&mut y, n).unwrap();
            plan.apply(&factors, view(&x), out, op, Parallelism::None, &mut ws).unwrap();
            let mut run = |saved| {
                let (mut gx, mut d) = (vec![f64::NAN; n * batch], vec![0.0; plan.num_entries()]);
                let out = Some(BatchMut::rows(&mut gx, n).unwrap());
                plan.apply_vjp(&factors, saved, op, view(&gy), out, Some(&mut d), Parallelism::None, &mut ws).unwrap();
                (gx, d)
            };
            let (from_input, from_output) = (run(Saved::Input(view(&x))), run(Saved::Output(view(&y))));
            assert_eq!(from_input.0, from_output.0, "{name} {op:?}");
            let error = from_input.1.iter().zip(&from_output.1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let size = from_input.1.iter().fold(1.0, |m: f64, g| m.max(g.abs()));
            assert!(error <= 64.0 * f64::EPSILON * size, "{name} {op:?}: {error:e}");
        }
    }
}

/// Gradients of pairs by every instruction set, from both ends, against the definition Σ g xᵀ over all vectors, with x and g before
/// and behind each stage from products in double precision. Returns how far off the worst is, in units of eps.
fn off_the_definition<T: Real + Element<Scalar = T>>(plan: &Plan<T>, theta: &[f64], batch: usize, op: Op) -> f64 {
    let (n, transposed) = (plan.n(), op == Op::Transpose);
    let factors = plan.realize(theta).unwrap();
    let numbers = |seed| normal(n * batch, seed).iter().map(|x| T::from_wide(*x)).collect::<Vec<T>>();
    let (x, gy, mut block) = (numbers(2), numbers(3), [T::zero(); 4]);
    let wide = |x: &[T]| x.iter().map(|x| x.to_wide()).collect::<Vec<f64>>();
    let mut turn = |x: &mut Vec<f64>, k: usize, transposed: bool| {
        let (layout, transposed) = (plan.stages()[k].layout(), transposed != plan.stages()[k].is_adjoint());
        for j in 0..layout.num_blocks() {
            plan.block(&factors, k, j, &mut block).unwrap();
            let [a, b, c, d] = block.map(|x| x.to_wide());
            let [b, c] = if transposed { [c, b] } else { [b, c] };
            let (first, second) = (layout.index(j, 0), layout.index(j, 1));
            for x in x.chunks_exact_mut(n) {
                (x[first], x[second]) = (a * x[first] + b * x[second], c * x[first] + d * x[second]);
            }
        }
    };
    let mut order: Vec<usize> = (0..plan.num_stages()).collect();
    if transposed {
        order.reverse();
    }
    let mut inputs = vec![wide(&x)];
    for &k in &order {
        let mut next = inputs[inputs.len() - 1].clone();
        turn(&mut next, k, transposed);
        inputs.push(next);
    }
    let (mut truth, mut g) = (vec![0.0; plan.num_entries()], wide(&gy));
    for (&k, x) in order.iter().zip(&inputs).rev() {
        let stage = &plan.stages()[k];
        for j in 0..stage.layout().num_blocks() {
            for (i, l) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (row, column) = (stage.layout().index(j, i), stage.layout().index(j, l));
                let product = g.chunks_exact(n).zip(x.chunks_exact(n)).map(|(g, x)| g[row] * x[column]).sum::<f64>();
                truth[if transposed != stage.is_adjoint() { stage.entry(j, l, i) } else { stage.entry(j, i, l) }] +=
                    product;
            }
        }
        turn(&mut g, k, !transposed);
    }
    let mut worst = 0.0f64;
    for isa in Isa::available() {
        let mut ws = Workspace::with_isa(isa).unwrap();
        let (mut y, mut gx) = (vec![T::zero(); n * batch], vec![T::zero(); n * batch]);
        let view = |data| Batch::rows(data, n).unwrap();
        let out = BatchMut::rows(&mut y, n).unwrap();
        plan.apply(&factors, view(&x), out, op, Parallelism::None, &mut ws).unwrap();
        let mut ends = vec![Saved::Input(view(&x))];
        ends.extend(plan.is_exact().then_some(Saved::Output(view(&y))));
        for saved in ends {
            let mut d = vec![T::zero(); plan.num_entries()];
            let out = Some(BatchMut::rows(&mut gx, n).unwrap());
            plan.apply_vjp(&factors, saved, op, view(&gy), out, Some(&mut d), Parallelism::None, &mut ws).unwrap();
            assert!(d.iter().chain(&gx).all(|x| x.to_wide().is_finite()));
            let pairs = d.iter().zip(&truth).chain(gx.iter().zip(&g));
            let off = pairs.map(|(x, truth)| (x.to_wide() - truth).abs()).fold(0.0, f64::max);
            worst = worst.max(off / T::EPS.to_wide());
        }
    }
    worst
}

fn gradients_of_pairs_of<T: Real + Element<Scalar = T>>() {
    let spread = |n: usize| (n as f64).log2() * 16.0;
    for n in [2, 32, 48, 64, 128, 256, 1024] {
        let plan = Plan::<T>::new(n, &Butterfly::classic(2), Givens).unwrap_or_else(|_| {
            let layout = StageLayout::Strided { unit: 1, radix: 2, distance: n / 2, groups: 1 };
            let source = || Source::chart(Givens);
            Plan::from_stages(n, [(layout.clone(), source()), (layout.clone(), source())]).unwrap()
        });
        let theta = normal(plan.num_params(), n as u64);
        for (batch, op) in [(1, Op::None), (17, Op::Transpose), (40, Op::None)] {
            let off = off_the_definition(&plan, &theta, batch, op);
            assert!(off <= spread(n) * (batch as f64).sqrt(), "n = {n}, batch {batch}, {op:?}: {off}");
        }
    }
    // Coordinates that no stage acts on; a stage that acts transposed beside one that does not.
    let rotations = |distance: usize| {
        (StageLayout::Strided { unit: 1, radix: 2, distance, groups: 32 / distance }, Source::chart(Givens))
    };
    let tail = Plan::<T>::from_stages(75, [rotations(16), rotations(32), rotations(1)]).unwrap();
    let mixed = tail.adjoint().then(tail.clone()).unwrap();
    for plan in [tail, mixed] {
        let off = off_the_definition(&plan, &normal(plan.num_params(), 1), 20, Op::None);
        assert!(off <= spread(64) * 20f64.sqrt(), "{} stages: {off}", plan.num_stages());
    }
    for n in [64, 1024] {
        let plan = Plan::<T>::new(n, &Benes, Givens).unwrap();
        let off = off_the_definition(&plan, &normal(plan.num_params(), 1), 20, Op::None);
        assert!(off <= 2.0 * spread(n) * 20f64.sqrt(), "Benes, n = {n}: {off}");
    }
    // Of the form of rotations, but not orthogonal: nothing may be undone by transposes.
    let n = 64;
    let fixed = |k: u32| {
        let blocks: Vec<f64> =
            normal(n / 2, k.into()).iter().flat_map(|t| [t.cos(), -t.sin(), t.sin(), t.cos()]).collect();
        let layout = StageLayout::Strided { unit: 1, radix: 2, distance: 1 << k, groups: n >> (k + 1) };
        (layout, Source::Fixed(blocks.iter().map(|x| f64::from((0.75 * x) as f32)).collect::<Vec<_>>().into()))
    };
    let plan = Plan::<T>::from_stages(n, (0..6).map(fixed)).unwrap();
    assert!(!plan.is_exact());
    let off = off_the_definition(&plan, &[], 20, Op::None);
    assert!(off <= spread(n) * 20f64.sqrt(), "not orthogonal: {off}");
}

#[test]
fn gradients_of_pairs_are_their_definition() {
    gradients_of_pairs_of::<f32>();
    gradients_of_pairs_of::<f64>();
}

/// The check can fail: a chart whose pullback has one wrong sign.
#[derive(Debug)]
struct Flipped;

impl Parametrization<f64> for Flipped {
    fn name(&self) -> &'static str {
        "Cayley with a wrong sign"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Parametrization::<f64>::num_params(&Cayley, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Cayley.forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        let before = d_theta[0];
        Cayley.vjp(b, theta, block, d_block, d_theta);
        d_theta[0] = 2.0 * before - d_theta[0];
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        Cayley.inverse(b, block, theta)
    }
}

#[test]
fn a_flipped_sign_is_found() {
    let plan = Plan::<f64>::new(32, &Butterfly::boft(3, 4).unwrap(), Flipped).unwrap();
    let gradient = plan_gradient(&plan, &normal(plan.num_params(), 11), Op::None, 5).unwrap();
    assert!(gradient.theta > 1e-3 && gradient.x <= BOUND, "{gradient:?}");
}

/// Parameters and gradients in f32 are those in f64 up to rounding, and d_theta accumulates.
#[test]
fn single_precision_gradients_follow_double() {
    let (n, batch) = (64, 20);
    let topology = Butterfly::boft(3, 8).unwrap();
    let (double, single) =
        (Plan::<f64>::new(n, &topology, Cayley).unwrap(), Plan::<f32>::new(n, &topology, Cayley).unwrap());
    let narrow = |v: &[f64]| v.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let widen = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let theta = narrow(&normal(double.num_params(), 1));
    let (x, gy) = (narrow(&normal(n * batch, 2)), narrow(&normal(n * batch, 3)));
    let mut ws = Workspace::new();
    let factors = single.realize(&theta).unwrap();
    let (mut gx, mut d) = (vec![f32::NAN; n * batch], vec![0f32; single.num_entries()]);
    let (saved, cotangent) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
    let out = Some(BatchMut::rows(&mut gx, n).unwrap());
    single.apply_vjp(&factors, saved, Op::None, cotangent, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
    let mut d_theta = vec![0f32; theta.len()];
    single.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
    let once = d_theta.clone();
    single.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
    assert!(once.iter().zip(&d_theta).all(|(a, b)| 2.0 * a == *b), "d_theta accumulates");

    let (theta, x, gy) = (widen(&theta), widen(&x), widen(&gy));
    let factors = double.realize(&theta).unwrap();
    let (mut gx64, mut d64) = (vec![f64::NAN; n * batch], vec![0f64; double.num_entries()]);
    let (saved, cotangent) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
    let out = Some(BatchMut::rows(&mut gx64, n).unwrap());
    double.apply_vjp(&factors, saved, Op::None, cotangent, out, Some(&mut d64), Parallelism::Rayon, &mut ws).unwrap();
    let mut d_theta64 = vec![0f64; theta.len()];
    double.realize_vjp(&theta, &factors, &d64, &mut d_theta64).unwrap();
    for (narrow, wide) in [(&gx, &gx64), (&once, &d_theta64)] {
        let size = wide.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        let error = narrow.iter().zip(wide).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(error <= 8.0 * f64::from(f32::EPSILON) * size, "{}", error / size);
    }
}
