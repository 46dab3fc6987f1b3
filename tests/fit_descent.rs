//! Descent by gradients: planted products found again, losses of one's own, targets without a matrix, refusals.

use std::ops::ControlFlow;
use std::sync::Arc;

use papilio::fit::{
    self, BlackBox, Descent, Group, LeastSquares, Loss, Method, Options, Schedule, Start, Stop, Target,
};
use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{
    BatchMut, Error, Op, Orthogonal, Parallelism, Plan, Result, Source, StageLayout, Topology, Wide, Workspace, c64,
};

const LBFGS: Method = Method::Lbfgs { memory: 10 };

fn normal<W: Wide>(g: &mut Generator) -> W {
    let mut one = || (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0;
    let re = one();
    W::from_parts(re, if W::IS_COMPLEX { one() } else { 0.0 })
}

fn haar<W: Wide>(n: usize, seed: u64) -> Target<W> {
    let mut g = Generator::new(seed + 100);
    Target::project(n, &(0..n * n).map(|_| normal(&mut g)).collect::<Vec<W>>()).unwrap().0
}

/// Blocks that turn a plane by an angle up to `most`, or unitary ones near the identity likewise.
fn planted<W: Wide>(n: usize, topology: &dyn Topology, most: f64, seed: u64) -> Plan<W> {
    let mut g = Generator::new(seed);
    let mut stage = |layout: StageLayout| {
        let b = layout.block_size();
        let mut blocks = Vec::new();
        for _ in 0..layout.num_blocks() {
            let mut a = vec![W::zero(); b * b];
            for i in 0..b {
                for j in i..b {
                    let im = if W::IS_COMPLEX { most * (2.0 * g.uniform() - 1.0) } else { 0.0 };
                    let re = if i == j { 0.0 } else { most * (2.0 * g.uniform() - 1.0) };
                    a[i * b + j] = W::from_parts(re, im);
                }
            }
            let mut block = vec![W::zero(); b * b];
            papilio::dense::exp_skew(b, &a, &mut block).unwrap();
            blocks.extend(block);
        }
        (layout, Source::Fixed(blocks.into()))
    };
    let stages: Vec<_> = fit::layouts(n, topology).unwrap().into_iter().map(&mut stage).collect();
    Plan::from_stages(n, stages).unwrap()
}

fn apply<W: Wide>(plan: &Plan<W>, x: &[W]) -> Vec<W> {
    let mut y = x.to_vec();
    let factors = plan.realize::<f64>(&[]).unwrap();
    let rows = BatchMut::rows(&mut y, plan.n()).unwrap();
    plan.apply_in_place(&factors, rows, Op::None, Parallelism::Rayon, &mut Workspace::new()).unwrap();
    y
}

/// A plan of fixed blocks as a closure.
fn black_box<W: Wide>(plan: Plan<W>) -> impl FnMut(&[W], &mut [W]) -> Result<()> {
    move |x, t| {
        t.copy_from_slice(&apply(&plan, x));
        Ok(())
    }
}

fn identity<W: Wide>(n: usize) -> Vec<W> {
    (0..n * n).map(|at| if at % (n + 1) == 0 { W::one() } else { W::zero() }).collect()
}

/// Least squares with all columns of a plan: exactly e.
fn columns<W: Wide>(plan: &Plan<W>) -> LeastSquares<W> {
    let x = identity(plan.n());
    LeastSquares::new(&x, &apply(plan, &x)).unwrap()
}

/// Least squares with all columns of a matrix.
fn columns_of(target: &Target<f64>) -> LeastSquares<f64> {
    let (n, q) = (target.n(), target.entries());
    let columns: Vec<f64> = (0..n * n).map(|at| q[at % n * n + at / n]).collect();
    LeastSquares::new(&identity(n), &columns).unwrap()
}

fn options(start: Start, sweeps: usize, goal: f64) -> Options {
    let mut options = Options::default();
    (options.start, options.sweeps, options.goal, options.tolerance) = (start, sweeps, goal, 1e-9);
    options
}

fn descend<W: Wide>(
    n: usize,
    topology: &dyn Topology,
    loss: &mut dyn Loss<W>,
    method: Method,
    options: &Options,
) -> Result<Descent<W>> {
    fit::descend(n, &fit::layouts(n, topology)?, loss, method, options, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn planted_products_are_found() {
    fn check<W: Wide>(n: usize, topology: &dyn Topology, most: f64) {
        let plan = planted::<W>(n, topology, most, 3);
        let found = descend(n, topology, &mut columns(&plan), LBFGS, &options(Start::Identity, 300, 1e-20)).unwrap();
        println!("{} n = {n}: {:e} after {} steps, {:?}", topology.name(), found.loss, found.steps, found.stop);
        assert!(found.loss <= 1e-20 && found.stop == Stop::Exact, "{:e} {:?}", found.loss, found.stop);
        assert!(found.curve.windows(2).all(|w| w[1] < w[0]), "L-BFGS never goes up");
        assert_eq!((found.curve.len(), found.plan().num_params()), (found.steps + 1, 0));
        assert!(found.plan().is_exact());
        let q: Vec<W> = {
            let images = apply(&plan, &identity(n));
            (0..n * n).map(|at| images[at % n * n + at / n]).collect()
        };
        let (loss, curve) = (found.loss, found.curve.clone());
        let fit = found.into_fit(&Target::new(n, &q).unwrap(), &Options::default()).unwrap();
        assert!(fit.error <= 2.0 * loss + 1e-30 && fit.curve == curve, "{:e}", fit.error);
    }
    check::<f64>(16, &Butterfly::classic(2), 1.0);
    check::<f64>(32, &Butterfly::classic(2), 0.7);
    check::<f64>(24, &Butterfly::boft(2, 6).unwrap(), 0.5);
    check::<c64>(16, &Butterfly::classic(2), 0.5);
    check::<f64>(9, &Butterfly::classic(3), 1.0);
}

/// Far from the class gradients come to rest where sweeps do.
#[test]
fn haar_targets_as_near_as_by_sweeps() {
    let (n, topology) = (32, Butterfly::classic(2));
    let stages = fit::layouts(n, &topology).unwrap();
    for seed in 0..3 {
        let target = haar::<f64>(n, seed);
        let mut options = options(Start::Random, 1000, 0.0);
        (options.group, options.tolerance, options.restarts, options.seed) = (Group::Special, 1e-7, 4, seed);
        let sweeps = fit::alternating(&target, &stages, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let found = descend(n, &topology, &mut columns_of(&target), LBFGS, &options).unwrap();
        let fit = found.clone().into_fit(&target, &options).unwrap();
        println!("sweeps {:.4}, descent {:.4} after {} steps", sweeps.error, found.loss, found.steps);
        assert!((fit.error - found.loss).abs() <= 1e-12, "the loss is e");
        assert!(found.loss <= 1.04 * sweeps.error, "{} {}", found.loss, sweeps.error);
    }
}

/// Rotations by π lie at infinity of Cayley's chart; on the group they are like others.
#[test]
fn half_turns_are_reached_by_re_basing_only() {
    let (n, topology) = (8, BlockDiagonal::new(4));
    let turn = planted::<f64>(n, &topology, 1.0, 9);
    // T·diag(−1, −1, 1, 1)·Tᵀ: a plane of every block turns by π, oblique to the coordinates.
    let half = |stage: &papilio::Stage<f64>| {
        let Source::Fixed(blocks) = stage.source() else { unreachable!() };
        let conjugate = |t: &[f64]| -> Vec<f64> {
            let sign = |k: usize| if k < 2 { -1.0 } else { 1.0 };
            let entry = |i: usize, j: usize| (0..4).map(|k| sign(k) * t[4 * i + k] * t[4 * j + k]).sum();
            (0..16).map(|at| entry(at / 4, at % 4)).collect()
        };
        let blocks: Vec<f64> = blocks.chunks(16).flat_map(conjugate).collect();
        (stage.layout().clone(), Source::Fixed(blocks.into()))
    };
    let half = Plan::from_stages(n, turn.stages().iter().map(half)).unwrap();
    let adam = Method::Adam { rate: 0.05, schedule: Schedule::Constant };
    for (method, steps) in [(LBFGS, 60), (adam, 1000)] {
        let options = options(Start::Random, steps, 1e-12);
        let mut options_of_blocks = options.clone();
        options_of_blocks.group = Group::Special;
        let blocks = descend(n, &topology, &mut columns(&half), method, &options_of_blocks).unwrap();
        let chart = Plan::<f64>::new(n, &topology, Cayley).unwrap();
        let mut g = Generator::new(1);
        let theta: Vec<f64> = (0..chart.num_params()).map(|_| 0.5 * normal::<f64>(&mut g)).collect();
        let watch = &mut |_: &fit::Progress| ControlFlow::Continue(());
        let flat = fit::descend_theta(&chart, &theta, &mut columns(&half), method, &options, watch).unwrap();
        println!(
            "{method:?}: {:e} {} re-based, {:e} {} in the chart",
            blocks.loss, blocks.steps, flat.loss, flat.steps
        );
        assert!(blocks.loss <= 1e-12, "{:e}", blocks.loss);
        assert!(flat.loss >= 1e3 * blocks.loss, "{:e}", flat.loss);
    }
}

/// No number of entries of the target exists anywhere: 4096 coordinates, 16 probes at a time.
#[test]
fn a_black_box_of_4096_coordinates() {
    let (n, topology) = (4096, Butterfly::classic(2));
    let plan = planted::<f64>(n, &topology, 0.3, 5);
    let fresh = |found: &Descent<f64>| {
        let mut loss = BlackBox::new(n, 8, 999, black_box(plan.clone())).unwrap();
        loss.prepare(0).unwrap();
        let y = apply(found.plan(), loss.inputs());
        loss.evaluate(&y, &mut vec![0.0; y.len()])
    };
    let adam = Method::Adam { rate: 0.03, schedule: Schedule::Cosine };
    for (method, steps, batch, goal) in [(LBFGS, 60, 32, 1e-8), (adam, 150, 8, 1e-4)] {
        let mut loss = BlackBox::new(n, batch, 1, black_box(plan.clone())).unwrap();
        let mut options = options(Start::Identity, steps, 0.0);
        options.tolerance = 0.0;
        let start = std::time::Instant::now();
        let found = descend(n, &topology, &mut loss, method, &options).unwrap();
        let e = fresh(&found);
        println!("{method:?}: {:e} to {e:e} on fresh probes, {:?}", found.curve[0], start.elapsed());
        assert!(e <= goal, "{e:e}");
    }
}

/// Σ√(s² + (y − t)²) − s: gross outliers pull with a bounded force.
struct SmoothedL1 {
    x: Vec<f64>,
    t: Vec<f64>,
    s: f64,
}

impl Loss<f64> for SmoothedL1 {
    fn inputs(&self) -> &[f64] {
        &self.x
    }
    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        let mut loss = 0.0;
        for ((y, t), g) in y.iter().zip(&self.t).zip(gradient) {
            let root = self.s.hypot(y - t);
            (loss, *g) = (loss + (root - self.s), (y - t) / root);
        }
        loss
    }
}

#[test]
fn a_robust_loss_forgets_outliers() {
    let (n, batch, topology) = (16, 64, Butterfly::classic(2));
    let plan = planted::<f64>(n, &topology, 0.8, 4);
    let mut g = Generator::new(8);
    let x: Vec<f64> = (0..n * batch).map(|_| normal(&mut g)).collect();
    let mut t = apply(&plan, &x);
    t.iter_mut().filter(|_| g.uniform() < 0.1).for_each(|t| *t += 20.0);
    let options = options(Start::Identity, 500, 0.0);
    let mut squares = LeastSquares::new(&x, &t).unwrap();
    let mut robust = SmoothedL1 { x, t, s: 1e-3 };
    let mut clean = columns(&plan);
    clean.prepare(0).unwrap();
    let error = |loss: &mut dyn Loss<f64>| {
        let found = descend(n, &topology, loss, LBFGS, &options).unwrap();
        let y = apply(found.plan(), clean.inputs());
        clean.evaluate(&y, &mut vec![0.0; y.len()])
    };
    let (squares, robust) = (error(&mut squares), error(&mut robust));
    println!("least squares {squares:e}, robust {robust:e}");
    assert!(robust <= 1e-6 && squares >= 1e-2, "{squares:e} {robust:e}");
}

/// θ of any plan: shared parameters, a fixed stage, single precision; re-based by the owner between two runs.
#[test]
fn theta_of_any_plan() {
    let n = 16;
    let first = Plan::<f64>::new(n, &Butterfly::classic(2), Givens).unwrap();
    let mut g = Generator::new(2);
    let wanted: Vec<f64> = (0..first.num_params()).map(|_| normal::<f64>(&mut g) * 0.4).collect();
    let target = Orthogonal::new(first.clone(), &wanted).unwrap();
    let mut loss = LeastSquares::new(&identity(n), &target.apply(&identity(n)).unwrap()).unwrap();
    let watch = &mut |_: &fit::Progress| ControlFlow::Continue(());
    let start = vec![0.0; first.num_params()];
    let found = fit::descend_theta(&first, &start, &mut loss, LBFGS, &options(Start::Identity, 300, 1e-20), watch);
    let found = found.unwrap();
    assert!(found.loss <= 1e-20 && found.theta().len() == first.num_params(), "{:e}", found.loss);

    // In two runs, the second one from a new base.
    let cayley = Plan::<f64>::new(n, &Butterfly::classic(2), Cayley).unwrap();
    let one = fit::descend_theta(&cayley, &start, &mut loss, LBFGS, &options(Start::Identity, 5, 0.0), watch).unwrap();
    let based = Orthogonal::new(one.plan().clone(), one.theta()).unwrap().rebase().unwrap();
    let two = options(Start::Identity, 300, 1e-20);
    let two = fit::descend_theta(based.plan(), based.theta(), &mut loss, LBFGS, &two, watch).unwrap();
    assert!((two.curve[0] - one.loss).abs() <= 1e-12 && two.loss <= 1e-20, "{:e} {:e}", two.curve[0], two.loss);

    let single = Plan::<f32>::new(n, &Butterfly::classic(2), Arc::new(Givens)).unwrap();
    let (x, t): (Vec<f32>, Vec<f32>) = (
        identity::<f64>(n).iter().map(|x| *x as f32).collect(),
        target.apply(&identity(n)).unwrap().iter().map(|x| *x as f32).collect(),
    );
    let mut loss = LeastSquares::new(&x, &t).unwrap();
    let found =
        fit::descend_theta(&single, &start, &mut loss, LBFGS, &options(Start::Identity, 300, 0.0), watch).unwrap();
    assert!(found.loss <= 1e-13, "{:e}", found.loss);
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (n, topology) = (64, Butterfly::boft(3, 4).unwrap());
    let plan = planted::<f64>(n, &topology, 1.0, 6);
    for method in [LBFGS, Method::Adam { rate: 0.05, schedule: Schedule::Cosine }] {
        let run = |parallelism, seed| {
            let mut options = options(Start::Random, 30, 0.0);
            (options.parallelism, options.seed) = (parallelism, seed);
            let mut loss = BlackBox::new(n, 40, 3, black_box(plan.clone())).unwrap();
            let found = descend(n, &topology, &mut loss, method, &options).unwrap();
            (found.curve.clone(), apply(found.plan(), &identity(n)))
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = run(Parallelism::None, 1);
        assert_eq!(one, run(Parallelism::Rayon, 1));
        assert_eq!(one, pool(3).install(|| run(Parallelism::Rayon, 1)));
        assert_ne!(one.0, run(Parallelism::None, 2).0);
    }
}

#[test]
fn an_interrupt_keeps_the_best() {
    let (n, topology) = (16, Butterfly::classic(2));
    let stages = fit::layouts(n, &topology).unwrap();
    // So long steps that the loss goes up and down.
    let method = Method::Adam { rate: 1.0, schedule: Schedule::Constant };
    let mut losses = Vec::new();
    let watch = &mut |progress: &fit::Progress| {
        losses.push(progress.error);
        if progress.sweep == 25 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut loss = columns(&planted::<f64>(n, &topology, 1.0, 7));
    let found = fit::descend(n, &stages, &mut loss, method, &options(Start::Random, 100, 0.0), watch).unwrap();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((found.stop, found.steps, found.curve.len()), (Stop::Interrupted, 25, 26));
    assert!(found.loss == least && least < losses[25], "{} {least} {}", found.loss, losses[25]);
    let y = apply(found.plan(), loss.inputs());
    assert!((loss.evaluate(&y, &mut vec![0.0; y.len()]) - least).abs() <= 1e-14);
    assert_eq!(found.curve, losses);
}

/// NaN from the round or the turn on that it says.
struct Poisoned(LeastSquares<f64>, usize, bool);

impl Loss<f64> for Poisoned {
    fn prepare(&mut self, round: usize) -> Result<()> {
        self.2 = round >= self.1;
        Ok(())
    }
    fn inputs(&self) -> &[f64] {
        self.0.inputs()
    }
    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        let loss = self.0.evaluate(y, gradient);
        if self.2 { f64::NAN } else { loss }
    }
}

/// ⟨c, y⟩ of one vector: negative at its best.
struct Linear([f64; 2], [f64; 2]);

impl Loss<f64> for Linear {
    fn inputs(&self) -> &[f64] {
        &self.0
    }
    fn evaluate(&self, y: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.copy_from_slice(&self.1);
        y[0] * self.1[0] + y[1] * self.1[1]
    }
}

#[test]
fn losses_may_be_negative() {
    let run = |scale: f64, goal| {
        let mut loss = Linear([1.0, 0.0], [3.0 * scale, 4.0 * scale]);
        let mut options = options(Start::Identity, 100, goal);
        options.group = Group::Special;
        descend(2, &BlockDiagonal::new(2), &mut loss, LBFGS, &options)
    };
    for scale in [1.0, 1e-100, 1e100] {
        let found = run(scale, 0.0).unwrap();
        assert!((found.loss / scale + 5.0).abs() < 1e-12 && found.stop == Stop::Converged, "{scale:e}: {}", found.loss);
    }
    let found = run(1.0, -4.0).unwrap();
    assert!(found.stop == Stop::Exact && found.loss <= -4.0);
    // Gradients whose length is no number.
    assert!(matches!(run(1e200, 0.0), Err(Error::Domain { .. })));
}

struct Empty;

impl Loss<f64> for Empty {
    fn inputs(&self) -> &[f64] {
        &[]
    }
    fn evaluate(&self, _: &[f64], _: &mut [f64]) -> f64 {
        0.0
    }
}

#[test]
fn what_is_not_finite_or_does_not_fit() {
    let (n, topology) = (8, Butterfly::classic(2));
    let adam = Method::Adam { rate: 0.1, schedule: Schedule::Constant };
    let run = |loss: &mut dyn Loss<f64>, method| descend(n, &topology, loss, method, &options(Start::Random, 20, 0.0));
    let squares = || columns(&planted::<f64>(n, &topology, 1.0, 1));
    for method in [LBFGS, adam] {
        assert!(matches!(run(&mut Poisoned(squares(), 0, false), method), Err(Error::Domain { .. })));
        let error = run(&mut Empty, method).unwrap_err();
        assert!(matches!(error, Error::Size { what: "batch of the loss", .. }), "{error}");
        let mut long = LeastSquares::new(&[1.0; 12], &[1.0; 12]).unwrap();
        assert!(matches!(run(&mut long, method), Err(Error::Size { .. })));
    }
    let found = run(&mut Poisoned(squares(), 7, false), adam).unwrap();
    assert_eq!((found.stop, found.steps), (Stop::Diverged, 6));
    assert!(found.loss.is_finite() && found.plan().is_exact());

    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let method = Method::Adam { rate, schedule: Schedule::Constant };
        assert!(matches!(run(&mut squares(), method), Err(Error::Domain { .. })));
    }
    assert!(matches!(LeastSquares::new(&[1.0; 8], &[1.0; 7]), Err(Error::Length { .. })));
    assert!(matches!(LeastSquares::<f64>::new(&[], &[]), Err(Error::Size { .. })));
    for x in [0.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(LeastSquares::new(&[x; 8], &[1.0; 8]), Err(Error::Domain { .. })));
    }
    assert!(matches!(LeastSquares::new(&[1.0; 8], &[f64::NAN; 8]), Err(Error::Domain { .. })));
    let nothing = |_: &[f64], _: &mut [f64]| Ok(());
    for (n, batch) in [(0, 1), (1, 0), (usize::MAX, 2)] {
        assert!(matches!(BlackBox::new(n, batch, 0, nothing), Err(Error::Size { .. })));
    }
    let poison = |_: &[f64], t: &mut [f64]| {
        t.fill(f64::NAN);
        Ok(())
    };
    assert!(matches!(run(&mut BlackBox::new(n, 4, 0, poison).unwrap(), LBFGS), Err(Error::Domain { .. })));
    let refuses = |_: &[f64], _: &mut [f64]| Err(Error::Length { what: "mine", expected: 1, got: 2 });
    assert!(matches!(
        run(&mut BlackBox::new(n, 4, 0, refuses).unwrap(), adam),
        Err(Error::Length { what: "mine", .. })
    ));

    // One coordinate: nothing to turn over the reals, a phase over the complex numbers.
    let mut one = LeastSquares::new(&[1.0], &[-1.0]).unwrap();
    let mut special = options(Start::Random, 20, 0.0);
    special.group = Group::Special;
    for method in [LBFGS, adam] {
        let found = descend(1, &BlockDiagonal::new(1), &mut one, method, &special).unwrap();
        assert_eq!((found.loss, found.steps, found.stop), (2.0, 0, Stop::Converged));
    }
    let mut phase = LeastSquares::new(&[c64::new(1.0, 0.0)], &[c64::new(0.0, 1.0)]).unwrap();
    let found = descend(1, &BlockDiagonal::new(1), &mut phase, LBFGS, &options(Start::Random, 50, 1e-28)).unwrap();
    assert!(found.loss <= 1e-28, "{:e}", found.loss);
    let plan = Plan::<f64>::new(n, &topology, Cayley).unwrap();
    let watch = &mut |_: &fit::Progress| ControlFlow::Continue(());
    let error = fit::descend_theta(&plan, &[0.0], &mut squares(), LBFGS, &Options::default(), watch).unwrap_err();
    assert!(matches!(error, Error::Length { .. }));
}
