//! Q(t): every block along exp(t·log B).

use std::f64::consts::PI;
use std::sync::Arc;

use papilio::parametrization::{Cayley, Exponential, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Explicit};
use papilio::verify::orthogonality_ratio;
use papilio::{Error, Orthogonal, Parametrization, Plan, Result, Scalar, Sharing, Source, StageLayout, c64};
use proptest::prelude::*;
use rand::SeedableRng;

fn random<T: Scalar>(plan: &Plan<T>, deviation: f64, seed: u64) -> Orthogonal<T> {
    Orthogonal::random_normal(plan.clone(), deviation, &mut rand::rngs::StdRng::seed_from_u64(seed)).unwrap()
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|at| (0..n).map(|k| a[at / n * n + k] * b[k * n + at % n]).sum()).collect()
}

fn miss(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| f64::from(at % (n + 1) == 0)).collect()
}

/// Charts, sharing, a fixed rotation, a table, an adjoint, an untouched coordinate.
fn mixed() -> Plan<f64> {
    let chart = |sharing| Source::Chart { chart: Arc::new(Cayley) as Arc<dyn Parametrization<f64>>, sharing };
    let stages = [
        (StageLayout::contiguous(3, 4), chart(Sharing::Groups([0, 1, 0, 1].into()))),
        (StageLayout::contiguous(2, 6), Source::Fixed([0.6, -0.8, 0.8, 0.6].repeat(6).into())),
        (StageLayout::contiguous(2, 6), chart(Sharing::All)),
    ];
    let explicit = Explicit::new(13, [(4, vec![12, 3, 0, 7, 8, 1, 2, 11])]).unwrap();
    Plan::from_stages(13, stages).unwrap().then(Plan::new(13, &explicit, Cayley).unwrap().adjoint()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn angles_are_multiplied_and_cayley_takes_half_angle_tangents(t in -0.9..1.4f64, seed: u64) {
        let givens = random(&Plan::<f64>::new(16, &Butterfly::classic(2), Givens).unwrap(), 0.6, seed);
        let cayley = random(&Plan::<f64>::new(16, &Butterfly::classic(2), Cayley).unwrap(), 0.6, seed);
        let (turned, moved) = (givens.interpolate(t).unwrap(), cayley.interpolate(t).unwrap());
        for (theta, at) in givens.theta().iter().zip(turned.theta()) {
            prop_assert!(theta.abs() > 2.2 || (at - t * theta).abs() <= 4.0 * f64::EPSILON, "{theta} {at}");
        }
        // θ of the exponential chart is the logarithm itself, for real and for unitary blocks.
        let real = random(&Plan::<f64>::new(8, &BlockDiagonal::new(4), Exponential).unwrap(), 0.3, seed);
        let unitary = random(&Plan::<c64>::new(6, &BlockDiagonal::new(3), Exponential).unwrap(), 0.3, seed);
        let moved_real = real.interpolate(t).unwrap().theta().to_vec();
        let moved_unitary = unitary.interpolate(t).unwrap().theta().to_vec();
        for (theta, at) in real.theta().iter().zip(moved_real).chain(unitary.theta().iter().zip(moved_unitary)) {
            prop_assert!((at - t * theta).abs() <= 32.0 * f64::EPSILON, "{theta} {at}");
        }
        for (theta, at) in cayley.theta().iter().zip(moved.theta()) {
            let truth = (t * theta.atan()).tan();
            let bent = 1.0 + truth * truth; // the derivative of the tangent
            prop_assert!(theta.atan().abs() > 1.1 || (at - truth).abs() <= 4.0 * f64::EPSILON * bent, "{theta} {at}");
        }
    }

    #[test]
    fn every_t_is_orthogonal_and_stages_are_groups(s in -1.0..1.0f64, t in -1.0..1.0f64, b in 1usize..8, seed: u64) {
        let q = random(&Plan::<f64>::new(b, &BlockDiagonal::new(b), Cayley).unwrap(), 0.4, seed);
        let at = |t: f64| q.interpolate(t).unwrap().to_dense().unwrap();
        prop_assert!(orthogonality_ratio(b, b, &at(t)).unwrap() <= 2.0);
        // One stage: Q(s)·Q(t) = Q(s + t), as Cayley blocks stay off the cut and |s + t| ≤ 2.
        prop_assert!(miss(&product(&at(s), &at(t), b), &at(s + t)) <= 1e-14 * b as f64);
        let mut third = at(1.0 / 3.0);
        third = product(&product(&third, &third, b), &third, b);
        prop_assert!(miss(&third, &q.to_dense().unwrap()) <= 1e-14 * b as f64);
        // The principal path: at t = ½ no plane has turned beyond a quarter turn, so xᵀB(½)x ≥ 0.
        let half = at(0.5);
        for i in 0..b {
            prop_assert!(half[i * b + i] >= -1e-14);
        }
        let mixed = random(&mixed(), 0.8, seed).interpolate(t).unwrap();
        prop_assert!(orthogonality_ratio(13, 13, &mixed.to_dense().unwrap()).unwrap() <= 2.0);
    }
}

#[test]
fn ends_are_exact_and_the_path_is_continuous() {
    for plan in [mixed(), mixed().adjoint(), Plan::new(16, &Butterfly::boft(3, 4).unwrap(), Cayley).unwrap()] {
        let q = random(&plan, 1.0, 1);
        let (start, end) = (q.interpolate(0.0).unwrap(), q.interpolate(1.0).unwrap());
        assert_eq!(start.to_dense().unwrap(), identity(q.n()));
        assert_eq!(start.theta(), vec![0.0; q.theta().len()]);
        assert_eq!((end.theta(), end.to_dense().unwrap()), (q.theta(), q.to_dense().unwrap()));
        plan.block(end.factors(), 0, 0, &mut vec![0.0; plan.stages()[0].layout().block_size().pow(2)]).unwrap();
        for near in [1e-9, 1.0 - 1e-9, 1.0 + 1e-9] {
            let (at, limit) = (q.interpolate(near).unwrap(), if near < 0.5 { &start } else { &q });
            assert!(miss(&at.to_dense().unwrap(), &limit.to_dense().unwrap()) <= 5e-8);
        }
        // There and back, stage by stage: Q(−t) undoes the stages of Q(t) in the same order, not Q(t) itself.
        let forth = q.interpolate(0.3).unwrap();
        assert!(forth.plan().num_params() == plan.num_params() && forth.plan().is_exact());
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(matches!(q.interpolate(bad), Err(Error::Domain { .. })));
        }
    }
}

#[test]
fn it_is_no_power_of_q_with_more_than_one_stage() {
    let plan = Plan::<f64>::new(4, &Butterfly::classic(2), Givens).unwrap();
    let q = Orthogonal::new(plan, [1.2, -0.7, 1.0, 0.4]).unwrap();
    let half = q.interpolate(0.5).unwrap().to_dense().unwrap();
    assert!(miss(&product(&half, &half, 4), &q.to_dense().unwrap()) > 0.05);
}

#[test]
fn shared_blocks_move_together_and_single_precision_is_rounded_once() {
    let source = Source::Chart { chart: Arc::new(Cayley) as Arc<dyn Parametrization<f64>>, sharing: Sharing::All };
    let shared = Plan::<f32>::from_stages(12, [(StageLayout::contiguous(3, 4), source)]).unwrap();
    let q = random(&shared, 0.5, 3);
    let half = q.interpolate(0.5).unwrap();
    assert_eq!(half.theta().len(), 3);
    // The truth: one block in double precision.
    let one = Orthogonal::new(Plan::<f64>::new(3, &BlockDiagonal::new(3), Cayley).unwrap(), q.theta()).unwrap();
    let truth = one.interpolate(0.5).unwrap().to_dense().unwrap();
    let mut block = [0.0f32; 9];
    half.plan().block(half.factors(), 0, 0, &mut block).unwrap();
    assert!(block.iter().zip(&truth).all(|(x, y)| (f64::from(*x) - y).abs() <= 0.51 * f64::from(f32::EPSILON)));
}

#[test]
fn blocks_on_the_cut_turn_by_half_either_way() {
    let plan = Plan::<f64>::new(2, &BlockDiagonal::new(2), Givens).unwrap();
    for theta in [PI, -PI, 3.0 * PI] {
        let q = Orthogonal::new(plan.clone(), [theta]).unwrap();
        let half = q.interpolate(0.5).unwrap().to_dense().unwrap();
        assert!(half[0].abs() <= 1e-15 && (half[1].abs() - 1.0).abs() <= 1e-15, "{half:?}");
    }
    // Beyond half a turn the short way is taken, and the end is still the same θ.
    let q = Orthogonal::new(plan, [5.0]).unwrap();
    assert!((q.interpolate(0.5).unwrap().theta()[0] - (2.5 - PI)).abs() <= 1e-15);
    assert_eq!(q.interpolate(1.0).unwrap().theta(), [5.0]);
    // −I in four dimensions has determinant 1.
    let minus: Vec<f64> = identity(4).iter().map(|x| -x).collect();
    let plan = Plan::<f64>::from_stages(4, [(StageLayout::contiguous(4, 1), Source::Fixed(minus.clone().into()))]);
    let half = Orthogonal::identity(plan.unwrap()).unwrap().interpolate(0.5).unwrap().to_dense().unwrap();
    assert!(orthogonality_ratio(4, 4, &half).unwrap() <= 2.0);
    assert!(miss(&product(&half, &half, 4), &minus) <= 1e-15);
}

#[test]
fn reflections_have_no_path_and_are_named() {
    let mut blocks = [1.0, 0.0, 0.0, 1.0].repeat(4);
    blocks[12..].copy_from_slice(&[0.0, 1.0, 1.0, 0.0]);
    let stages = [
        (StageLayout::contiguous(2, 4), Source::chart(Givens)),
        (StageLayout::contiguous(2, 4), Source::Fixed(blocks.into())),
    ];
    let q = random(&Plan::<f32>::from_stages(9, stages).unwrap(), 1.0, 4);
    for t in [0.0, 0.5, 1.0] {
        let message = q.interpolate(t).unwrap_err().to_string();
        assert!(message.contains("block 3 of stage 1") && message.contains("determinant −1"), "{message}");
    }
    let loose = Source::Fixed([0.9, -0.1, 0.1, 0.9].into());
    let q = Orthogonal::identity(Plan::<f64>::from_stages(2, [(StageLayout::contiguous(2, 1), loose)]).unwrap());
    let message = q.unwrap().interpolate(0.5).unwrap_err().to_string();
    assert!(message.contains("block 0 of stage 0") && message.contains("orthogonal"), "{message}");
    // Blocks that were rounded to single precision are orthogonal enough.
    let (c, s) = (f64::from(0.3f32.cos()), f64::from(0.3f32.sin()));
    let rounded = Source::Fixed([c, -s, s, c].into());
    let q = Orthogonal::identity(Plan::<f64>::from_stages(2, [(StageLayout::contiguous(2, 1), rounded)]).unwrap());
    let half = q.unwrap().interpolate(0.5).unwrap().to_dense().unwrap();
    assert!((half[0] - 0.15f64.cos()).abs() <= 1e-7 && orthogonality_ratio(2, 2, &half).unwrap() <= 2.0);
}

/// Givens that reaches up to half a radian only, or that is not quite orthogonal.
#[derive(Debug)]
struct Narrow {
    exact: bool,
}

impl Parametrization<f64> for Narrow {
    fn name(&self) -> &'static str {
        "Narrow"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Parametrization::<f64>::num_params(&Givens, b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        Givens.forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        Givens.vjp(b, theta, block, d_block, d_theta);
    }
    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        Givens.inverse(b, block, theta)?;
        if theta[0].abs() <= 0.5 {
            return Ok(());
        }
        Err(Error::Domain { what: "inverse of Narrow".into(), expected: "a small angle", got: theta[0].to_string() })
    }
    fn is_exact(&self) -> bool {
        self.exact
    }
}

#[test]
fn charts_that_do_not_reach_or_are_not_exact_are_errors() {
    let q = |exact| {
        let plan = Plan::<f64>::new(6, &BlockDiagonal::new(2), Narrow { exact }).unwrap();
        Orthogonal::new(plan, [0.1, 0.2, 0.4]).unwrap()
    };
    assert!(q(true).interpolate(1.2).is_ok());
    let message = q(true).interpolate(2.0).unwrap_err().to_string();
    for word in ["Narrow", "block 2 of stage 0", "t = 2", "small angle"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(matches!(q(false).interpolate(0.5), Err(Error::Unsupported { .. })));
}

#[test]
fn unitary_blocks_move_along_their_phases() {
    let phase = |phi: f64| c64::new(phi.cos(), phi.sin());
    let (c, s, zero) = (0.7f64.cos(), 0.7f64.sin(), c64::new(0.0, 0.0));
    // Phases, and a rotation times a phase; determinant −1 is no obstacle.
    let blocks = [phase(0.4), zero, zero, phase(-2.0), phase(1.0) * c, phase(1.0) * -s, phase(1.0) * s, phase(1.0) * c];
    let swap = [zero, c64::new(1.0, 0.0), c64::new(1.0, 0.0), zero];
    let source = Source::Fixed([&blocks[..], &swap].concat().into());
    let q =
        Orthogonal::identity(Plan::<c64>::from_stages(6, [(StageLayout::contiguous(2, 3), source)]).unwrap()).unwrap();
    let t = 0.3;
    let moved = q.interpolate(t).unwrap();
    let (c, s) = ((0.7 * t).cos(), (0.7 * t).sin());
    let h = (c64::new(1.0, 0.0) + phase(PI * t)) * 0.5; // the swap has eigenvalues 1 and −1
    let g = (c64::new(1.0, 0.0) - phase(PI * t)) * 0.5;
    let p = phase(t);
    let truth = [phase(0.4 * t), zero, zero, phase(-2.0 * t), p * c, p * -s, p * s, p * c, h, g, g, h];
    for (at, truth) in truth.iter().enumerate() {
        let found = moved.factors().entries()[moved.plan().stages()[0].entry(at / 4, at / 2 % 2, at % 2)];
        assert!((found - truth).norm() <= 4.0 * f64::EPSILON, "{at}: {found} {truth}");
    }
}

/// Dense truth: the block that the reflections make, moved as a fixed block.
#[test]
fn products_of_reflections_move_in_the_span_of_their_vectors() {
    let mut worst = 0f64;
    for (b, count) in [(1, 2), (2, 2), (5, 2), (7, 4), (3, 6), (12, 4), (33, 8), (6, 0)] {
        let stage = (StageLayout::contiguous(b, 2), Source::reflectors(count));
        let plan = Plan::<f64>::from_stages(2 * b + 1, [stage]).unwrap();
        let q = random(&plan, 1.0, (7 * b + count) as u64);
        let n = q.n();
        let dense = q.to_dense().unwrap();
        let blocks: Vec<f64> = (0..2 * b * b)
            .map(|at| {
                let (start, i, j) = (at / (b * b) * b, at / b % b, at % b);
                dense[(start + i) * n + start + j]
            })
            .collect();
        let fixed = (StageLayout::contiguous(b, 2), Source::Fixed(blocks.into()));
        let truth = Orthogonal::identity(Plan::<f64>::from_stages(n, [fixed]).unwrap()).unwrap();
        for t in [0.0, 1e-9, 0.25, 0.5, 0.9, 1.0, -0.7, 1.3] {
            let (found, truth) = (q.interpolate(t).unwrap(), truth.interpolate(t).unwrap());
            let gap = miss(&found.to_dense().unwrap(), &truth.to_dense().unwrap());
            worst = worst.max(gap);
            assert!(
                gap <= 64.0 * f64::EPSILON * (1.0 + count as f64),
                "b = {b}, {count} reflections, t = {t}: {gap:e}"
            );
            assert_eq!(found.theta().len(), q.theta().len());
        }
        assert_eq!(q.interpolate(0.0).unwrap().to_dense().unwrap(), identity(n));
        assert_eq!(q.interpolate(1.0).unwrap().theta(), q.theta());
    }
    println!("largest error of an interpolated product of reflections: {worst:e}");
}

#[test]
fn awkward_vectors_of_reflections() {
    let make = |b: usize, theta: Vec<f64>| {
        let stage = (StageLayout::contiguous(b, 1), Source::reflectors(theta.len() / b));
        Orthogonal::new(Plan::<f64>::from_stages(b, [stage]).unwrap(), theta).unwrap()
    };
    // An odd number, or an odd number that are not zero.
    for theta in [vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.0, 0.0, 0.0, 0.0]] {
        let q = make(3, theta);
        for t in [0.0, 0.5, 1.0] {
            let message = q.interpolate(t).unwrap_err().to_string();
            assert!(message.contains("block 0 of stage 0") && message.contains("determinant −1"), "{message}");
        }
    }
    // Dependent, huge and tiny vectors: equal ones cancel, zeros do nothing.
    let still = make(2, vec![1e300, 1e300, -1e-300, -1e-300, 0.0, 0.0, 0.0, 0.0]).interpolate(0.3).unwrap();
    assert!(miss(&still.to_dense().unwrap(), &identity(2)) <= 4.0 * f64::EPSILON);
    // Two mirrors at an angle of π/8 turn by π/4, half of them by π/8.
    let (c, s) = ((std::f64::consts::PI / 8.0).cos(), (std::f64::consts::PI / 8.0).sin());
    let half = make(2, vec![1.0, 0.0, 7.0 * c, 7.0 * s]).interpolate(0.5).unwrap().to_dense().unwrap();
    assert!(miss(&half, &[c, -s, s, c]) <= 4.0 * f64::EPSILON, "{half:?}");
    // Never a dense matrix: as a matrix this block would be 80 GB.
    let n = 100_000;
    let theta: Vec<f64> = (0..2 * n).map(|i| (0.37 * i as f64).sin()).collect();
    let q = make(n, theta);
    let (x, quarter) = (vec![1.0; n], q.interpolate(0.25).unwrap());
    let mut y = x.clone();
    for _ in 0..4 {
        y = quarter.apply(&y).unwrap();
    }
    assert!(miss(&y, &q.apply(&x).unwrap()) <= 1e-13, "one stage: four quarters are the whole");
    // Those that leave their family.
    let layout = || StageLayout::contiguous(4, 1);
    let complex = Plan::<c64>::from_stages(4, [(layout(), Source::reflectors(2))]).unwrap();
    let message = random(&complex, 1.0, 1).interpolate(0.5).unwrap_err().to_string();
    assert!(message.contains("complex reflectors in stage 0"), "{message}");
}

#[test]
fn orthonormal_reflectors_turn_their_span_by_less_than_pi() {
    for (n, count) in [(4, 2), (9, 4), (6, 6)] {
        let layout = StageLayout::contiguous(n, 1);
        let plan = Plan::<f64>::from_stages(n, [(layout, Source::orthonormal_reflectors(count))]).unwrap();
        let q = random(&plan, 1.0, 5);
        // I − 2P, P the projection onto the span: its square root turns the span by π/2.
        let (whole, half) = (q.to_dense().unwrap(), q.interpolate(0.5).unwrap());
        let twice = |x: &[f64]| half.apply(&half.apply(x).unwrap()).unwrap();
        for j in 0..n {
            let unit: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == j))).collect();
            let column: Vec<f64> = (0..n).map(|i| whole[i * n + j]).collect();
            assert!(miss(&twice(&unit), &column) <= 1e-14, "n = {n}, {count} vectors");
        }
        let trace: f64 = (0..n).map(|i| half.to_dense().unwrap()[i * n + i]).sum();
        assert!((trace - (n - count) as f64).abs() <= 1e-13, "{trace}");
        assert_eq!(q.interpolate(1.0).unwrap().theta(), q.theta());
        assert!(miss(&q.interpolate(0.0).unwrap().to_dense().unwrap(), &identity(n)) <= 1e-14);
    }
    let layout = StageLayout::contiguous(5, 1);
    let odd = Plan::<f64>::from_stages(5, [(layout, Source::orthonormal_reflectors(3))]).unwrap();
    let message = random(&odd, 1.0, 1).interpolate(0.5).unwrap_err().to_string();
    assert!(message.contains("determinant −1"), "{message}");
}
