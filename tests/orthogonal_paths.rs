//! Ways through a family of operators: composition, interpolation, truncation, re-basing.

use std::sync::Arc;

use papilio::parametrization::{Cayley, Exponential, Givens, UnitaryPhases};
use papilio::topology::{AnyButterfly, BlockDiagonal, Butterfly, Explicit};
use papilio::verify::orthogonality_ratio;
use papilio::{Error, Orthogonal, Parametrization, Plan, Scalar, Sharing, Source, StageLayout, Topology, Wide, c64};
use rand::SeedableRng;

type Rng = rand::rngs::StdRng;

fn boft(n: usize) -> Plan<f64> {
    Plan::new(n, &Butterfly::boft(3, 4).unwrap(), Cayley).unwrap()
}

fn classic(n: usize) -> Plan<f64> {
    Plan::new(n, &Butterfly::classic(2), Givens).unwrap()
}

fn random<T: Scalar>(plan: Plan<T>, seed: u64) -> Orthogonal<T> {
    Orthogonal::random_normal(plan, 0.7, &mut Rng::seed_from_u64(seed)).unwrap()
}

/// Row-major product of n×n matrices.
fn product<W: Wide>(a: &[W], b: &[W], n: usize) -> Vec<W> {
    let entry = |at: usize| (0..n).fold(W::zero(), |sum, k| sum + a[at / n * n + k] * b[k * n + at % n]);
    (0..n * n).map(entry).collect()
}

fn identity<W: Wide>(n: usize) -> Vec<W> {
    (0..n * n).map(|at| if at % (n + 1) == 0 { W::one() } else { W::zero() }).collect()
}

/// Largest difference of entries.
fn miss<T: Scalar<Wide = f64>>(a: &Orthogonal<T>, b: &Orthogonal<T>) -> f64 {
    let (a, b) = (a.to_dense().unwrap(), b.to_dense().unwrap());
    a.iter().zip(&b).map(|(a, b)| (a.to_wide() - b.to_wide()).abs()).fold(0.0, f64::max)
}

/// Stage k as a matrix, from its blocks and its layout.
fn factor<W: Wide>(q: &Orthogonal<W>, k: usize) -> Vec<W> {
    let (n, layout) = (q.n(), q.plan().stages()[k].layout());
    let (b, blocks) = (layout.block_size(), papilio::verify::dense::blocks(q.plan(), q.factors(), k).unwrap());
    let mut matrix = identity(n);
    for (at, x) in blocks.iter().enumerate() {
        let j = at / (b * b);
        matrix[layout.index(j, at / b % b) * n + layout.index(j, at % b)] = *x;
    }
    matrix
}

/// A plan with everything in it: charts, an adjoint, shared blocks, a fixed rotation, a table, an untouched coordinate.
fn mixed() -> Plan<f64> {
    let n = 13;
    let chart = |sharing| Source::Chart { chart: Arc::new(Cayley) as Arc<dyn Parametrization<f64>>, sharing };
    let (c, s) = (0.6, 0.8);
    let stages = [
        (StageLayout::contiguous(3, 4), chart(Sharing::Groups([0, 1, 0, 1].into()))),
        (StageLayout::contiguous(2, 6), Source::Fixed([c, -s, s, c].repeat(6).into())),
        (StageLayout::contiguous(2, 6), chart(Sharing::All)),
    ];
    let explicit = Explicit::new(n, [(4, vec![12, 3, 0, 7, 8, 1, 2, 11])]).unwrap();
    let plan = Plan::from_stages(n, stages).unwrap();
    let tables = Plan::new(n, &explicit, Cayley).unwrap();
    plan.then(tables.adjoint()).unwrap()
}

#[test]
fn composition_is_the_product_of_matrices() {
    let n = 16;
    let (a, b) = (random(boft(n), 1).adjoint(), random(classic(n), 2));
    let ab = a.then(&b).unwrap();
    let truth = product(&b.to_dense().unwrap(), &a.to_dense().unwrap(), n);
    let worst = ab.to_dense().unwrap().iter().zip(&truth).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(worst <= 8.0 * f64::EPSILON, "{worst:e}");
    assert_eq!(ab.theta(), [a.theta(), b.theta()].concat());
    assert_eq!(b.compose(&a).unwrap().to_dense().unwrap(), ab.to_dense().unwrap());
    let back = ab.then(&ab.adjoint()).unwrap();
    assert!(miss(&back, &Orthogonal::identity(Plan::identity(n).unwrap()).unwrap()) <= 8.0 * f64::EPSILON);
    assert!(matches!(a.then(&random(boft(32), 1)), Err(Error::Length { expected: 16, got: 32, .. })));
}

#[test]
fn truncation_sets_the_leftmost_factors_to_the_identity() {
    for plan in [boft(16), classic(16), mixed(), mixed().adjoint()] {
        let q = random(plan.clone(), 3);
        let m = plan.num_stages();
        for k in 0..=m {
            let cut = q.truncate(k).unwrap();
            assert_eq!(cut.plan().num_stages(), k);
            assert_eq!(cut.plan().stages().iter().map(|s| s.theta().len()).sum::<usize>(), cut.theta().len());
            let mut truth = identity(q.n());
            for stage in 0..k {
                truth = product(&factor(&q, stage), &truth, q.n());
            }
            let dense = cut.to_dense().unwrap();
            let worst = dense.iter().zip(&truth).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(worst <= 8.0 * f64::EPSILON, "k = {k}: {worst:e}");
            assert!(orthogonality_ratio(q.n(), q.n(), &dense).unwrap() <= 2.0);
        }
        assert_eq!(q.truncate(m).unwrap().theta(), q.theta());
        assert!(matches!(q.truncate(m + 1), Err(Error::Index { .. })));
    }
}

#[test]
fn rebasing_keeps_every_bit_the_first_time_and_piles_up_nothing() {
    for (plan, trained) in [(boft(16), 3), (classic(16), 4), (mixed(), 3), (mixed().adjoint(), 3)] {
        let q = random(plan.clone(), 4);
        let fresh = q.rebase().unwrap();
        assert_eq!(fresh.theta(), vec![0.0; q.theta().len()]);
        assert_eq!(fresh.plan().num_params(), plan.num_params());
        assert!(miss(&fresh, &q) <= 4.0 * f64::EPSILON, "{:e}", miss(&fresh, &q));
        let stages = fresh.plan().num_stages();
        assert!(stages <= plan.num_stages() + trained, "{stages}");
        assert!(fresh.plan().is_exact());
        // θ keeps its order: a step from zero is a step from the old place, R₀·C(θ').
        let step: Vec<f64> = random(plan.clone(), 5).theta().to_vec();
        let mut moved = fresh.clone();
        moved.set_theta(&step).unwrap();
        let again = moved.rebase().unwrap();
        assert_eq!(again.plan().num_stages(), stages);
        assert!(miss(&again, &moved) <= 8.0 * f64::EPSILON, "{:e}", miss(&again, &moved));
    }
    // In single precision the first time changes no bit: the fixed blocks are those before rounding.
    let plan = Plan::<f32>::new(24, &BlockDiagonal::new(3), Cayley).unwrap();
    let q = random(plan, 6);
    assert_eq!(q.rebase().unwrap().to_dense().unwrap(), q.to_dense().unwrap());
}

#[test]
fn a_hundred_rebasings_stay_orthogonal_and_unsaturate_a_chart() {
    let plan = Plan::<f64>::new(12, &BlockDiagonal::new(4), Cayley).unwrap();
    let mut q = Orthogonal::new(plan, vec![1e4; 18]).unwrap();
    let mut rng = Rng::seed_from_u64(7);
    for _ in 0..100 {
        let step = Orthogonal::random_normal(q.plan().clone(), 0.3, &mut rng).unwrap().theta().to_vec();
        q.set_theta(step).unwrap();
        let fresh = q.rebase().unwrap();
        assert!(miss(&fresh, &q) <= 4.0 * f64::EPSILON);
        q = fresh;
    }
    assert_eq!(q.plan().num_stages(), 2);
    assert!(q.plan().is_exact() && orthogonality_ratio(12, 12, &q.to_dense().unwrap()).unwrap() <= 1.0);
    // Far out the chart is flat: the same step of θ moves Q by a million times less than after re-basing.
    let far = Orthogonal::new(q.plan().clone(), vec![1e4; 18]).unwrap();
    let nudge = |q: &Orthogonal<f64>| {
        let mut moved = q.clone();
        moved.set_theta(q.theta().iter().map(|t| t + 1e-3).collect::<Vec<_>>()).unwrap();
        miss(&moved, q)
    };
    assert!(nudge(&far) < 1e-9 && nudge(&far.rebase().unwrap()) > 1e-3, "{:e}", nudge(&far));
}

#[test]
fn rebasing_beside_a_reflection_trains_determinant_minus_one() {
    let mut reflect = [1.0, 0.0, 0.0, 1.0].repeat(4);
    reflect[0] = -1.0;
    let layout = BlockDiagonal::new(2).stage(8, 0);
    let stages = [(layout.clone(), Source::chart(Cayley)), (layout, Source::Fixed(reflect.into()))];
    let q = random(Plan::<f64>::from_stages(8, stages).unwrap(), 8);
    let fresh = q.rebase().unwrap();
    assert_eq!((fresh.plan().num_stages(), fresh.determinant_sign().unwrap()), (2, -1));
    assert!(miss(&fresh, &q) <= 2.0 * f64::EPSILON);
}

/// −1 times a plane rotation: half a turn at θ = 0.
#[derive(Debug)]
struct HalfTurned;

impl Parametrization<f64> for HalfTurned {
    fn name(&self) -> &'static str {
        "half-turned"
    }
    fn num_params(&self, b: usize) -> papilio::Result<usize> {
        Parametrization::<f64>::num_params(&Givens, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Givens.forward(b, theta, block);
        block.iter_mut().for_each(|x| *x = -*x);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        let negated = |x: &[f64]| x.iter().map(|x| -x).collect::<Vec<_>>();
        Givens.vjp(b, theta, &negated(block), &negated(d_block), d_theta);
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> papilio::Result<()> {
        Givens.inverse(b, &block.iter().map(|x| -x).collect::<Vec<_>>(), theta)
    }
}

#[test]
fn charts_that_do_not_start_at_the_identity_are_rebased_and_interpolated_as_well() {
    let plan = Plan::<f64>::new(8, &Butterfly::classic(2), HalfTurned).unwrap();
    let q = random(plan, 9);
    for q in [q.clone(), q.adjoint()] {
        let fresh = q.rebase().unwrap();
        assert_eq!(fresh.theta(), [0.0; 12]);
        assert!(miss(&fresh, &q) <= 2.0 * f64::EPSILON && miss(&fresh.rebase().unwrap(), &q) <= 4.0 * f64::EPSILON);
        let start = q.interpolate(0.0).unwrap();
        assert!(miss(&start, &Orthogonal::identity(Plan::identity(8).unwrap()).unwrap()) <= 4.0 * f64::EPSILON);
    }
}

#[test]
fn unitary_operators_go_the_same_ways() {
    let n = 9;
    let phases = Plan::<c64>::new(n, &AnyButterfly::new(2), UnitaryPhases).unwrap();
    let plan = Plan::new(n, &Butterfly::classic(3), Exponential).unwrap().then(phases.adjoint()).unwrap();
    let dense = |q: &Orthogonal<c64>| papilio::verify::dense::matrix(q.plan(), q.factors()).unwrap();
    let close = |a: &[c64], b: &[c64], what: &str| {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
        assert!(a.len() == b.len() && worst <= 8.0 * f64::EPSILON, "{what}: {worst:e}");
    };
    let (q, other) = (random(plan.clone(), 10), random(plan, 11).adjoint());
    close(&dense(&q.compose(&other).unwrap()), &product(&dense(&q), &dense(&other), n), "compose");
    let mut truth = identity(n);
    for k in 0..=q.plan().num_stages() {
        close(&dense(&q.truncate(k).unwrap()), &truth, "truncate");
        if k < q.plan().num_stages() {
            truth = product(&factor(&q, k), &truth, n);
        }
    }
    let fresh = q.rebase().unwrap();
    assert!(fresh.theta().iter().all(|t| *t == 0.0) && fresh.plan().is_exact());
    close(&dense(&fresh), &dense(&q), "rebase");
    let mut moved = fresh;
    moved.set_theta(other.theta()).unwrap();
    close(&dense(&moved.rebase().unwrap()), &dense(&moved), "rebase again");
}
