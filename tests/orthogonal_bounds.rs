//! Bounds that must never be violated, and must nearly be attained where they claim to be; balanced butterflies.

use std::sync::Arc;

use papilio::parametrization::{Cayley, Exponential, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Explicit, Shared};
use papilio::verify::distance;
use papilio::{Error, Orthogonal, Parametrization, Plan, Scalar, Sharing, Source, StageLayout, Topology, c64};
use proptest::prelude::*;
use rand::SeedableRng;

type Rng = rand::rngs::StdRng;

/// Frobenius and spectral norm of Q − Q', by faer's singular values.
fn truth<T: Scalar<Wide = f64>>(a: &Orthogonal<T>, b: &Orthogonal<T>) -> (f64, f64) {
    let n = a.n();
    let (x, y) =
        (papilio::verify::dense::matrix(a.plan(), a.factors()), papilio::verify::dense::matrix(b.plan(), b.factors()));
    let (x, y) = (x.unwrap(), y.unwrap());
    let difference = faer::Mat::<f64>::from_fn(n, n, |i, j| x[i * n + j] - y[i * n + j]);
    let values = difference.singular_values().unwrap();
    (values.iter().map(|s| s * s).sum::<f64>().sqrt(), values.iter().fold(0.0, |m: f64, s| m.max(*s)))
}

fn random<T: Scalar>(plan: &Plan<T>, deviation: f64, seed: u64) -> Orthogonal<T> {
    Orthogonal::random_normal(plan.clone(), deviation, &mut Rng::seed_from_u64(seed)).unwrap()
}

/// θ moved by a random step of the given size.
fn nearby<T: Scalar>(q: &Orthogonal<T>, step: f64, seed: u64) -> Orthogonal<T> {
    let e = random(q.plan(), step, seed);
    let theta: Vec<f64> = q.theta().iter().zip(e.theta()).map(|(t, e)| t + e).collect();
    Orthogonal::new(q.plan().clone(), theta).unwrap()
}

fn plans() -> Vec<Plan<f64>> {
    let shared = |sharing| Source::Chart { chart: Arc::new(Cayley) as Arc<dyn Parametrization<f64>>, sharing };
    let stages = [
        (StageLayout::contiguous(3, 4), shared(Sharing::Groups([0, 1, 0, 0].into()))),
        (StageLayout::contiguous(2, 6), Source::Fixed([0.6, -0.8, 0.8, 0.6].repeat(6).into())),
        (StageLayout::contiguous(2, 6), shared(Sharing::All)),
        (StageLayout::contiguous(1, 3), shared(Sharing::PerBlock)),
    ];
    let table = Explicit::new(12, [(4, vec![11, 3, 0, 7, 8, 1, 2, 9])]).unwrap();
    let mixed = Plan::from_stages(12, stages).unwrap();
    vec![
        Plan::new(16, &Butterfly::classic(2), Givens).unwrap(),
        Plan::new(16, &Butterfly::boft(3, 4).unwrap(), Cayley).unwrap(),
        mixed.then(Plan::new(12, &table, Cayley).unwrap().adjoint()).unwrap(),
        Plan::new(7, &BlockDiagonal::new(7), Cayley).unwrap(),
        Plan::new(9, &BlockDiagonal::new(3), Exponential).unwrap(),
        Plan::new(16, &Shared::by_group(Butterfly::classic(2)), Givens).unwrap(),
        Plan::identity(3).unwrap(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_bound_is_ever_violated(seed: u64, deviation in 0.01..3.0f64, exponent in -14..1i32) {
        for plan in plans() {
            let a = random(&plan, deviation, seed);
            let b = nearby(&a, 10f64.powi(exponent), seed ^ 1);
            let (frobenius, spectral) = truth(&a, &b);
            let slack = 1e-14; // of the dense truth
            let proof = a.distance(&b).unwrap();
            prop_assert!(frobenius <= proof.frobenius + slack && spectral <= proof.spectral + slack, "{proof:?}");
            // No more than one factor √m for steps that do not add up, and √b for the norm.
            let m = (plan.num_stages() as f64).sqrt().max(1.0);
            prop_assert!(proof.frobenius <= 4.0 * m * frobenius + 1e-13, "{proof:?} {frobenius:e}");
            let e = a.theta().iter().zip(b.theta()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let speed = plan.lipschitz().unwrap();
            prop_assert!(frobenius <= speed.frobenius * e + slack && spectral <= speed.spectral * e + slack);
            // The bound from the blocks never exceeds the one from θ alone, up to the rounding of the blocks.
            prop_assert!(proof.frobenius <= speed.frobenius * e + 1e-13 && proof.spectral <= 1.05 * speed.spectral * e + 1e-13);
            let c = a.condition().unwrap();
            prop_assert!(c.smallest <= 1.0 && c.largest >= 1.0 && c.condition < 1.0 + 1e-14);
        }
    }
}

#[test]
fn stages_in_parallel_attain_the_bounds() {
    // L stages on the same pairs: the angles add, and all bounds are met.
    let stages = 5;
    let stage = || Plan::<f64>::new(8, &BlockDiagonal::new(2), Givens).unwrap();
    let plan = (1..stages).fold(stage(), |plan, _| plan.then(stage()).unwrap());
    let (a, step) = (random(&plan, 1.0, 3), 1e-4);
    let moved: Vec<f64> = a.theta().iter().enumerate().map(|(i, t)| if i % 4 == 1 { t + step } else { *t }).collect();
    let b = Orthogonal::new(plan.clone(), moved).unwrap();
    let (frobenius, spectral) = truth(&a, &b);
    let (proof, speed, e) = (a.distance(&b).unwrap(), plan.lipschitz().unwrap(), step * (stages as f64).sqrt());
    assert!((speed.frobenius - (2.0 * stages as f64).sqrt()).abs() < 1e-14);
    for (truth, proof, prior) in
        [(frobenius, proof.frobenius, speed.frobenius * e), (spectral, proof.spectral, speed.spectral * e)]
    {
        assert!(proof >= truth - 1e-15 && proof <= truth * (1.0 + 1e-7), "{proof:e} {truth:e}");
        assert!(prior >= truth - 1e-15 && prior <= truth * (1.0 + 1e-7), "{prior:e} {truth:e}");
    }
}

#[test]
fn one_stage_and_shared_angles_attain_the_bounds() {
    // Cayley at θ = 0 moves at ‖dQ‖_F = 2√2·‖dθ‖, ‖dQ‖₂ = 2‖dθ‖ for one plane; N/2 shared angles at √N·|dθ|.
    let cayley = Plan::<f64>::new(3, &BlockDiagonal::new(3), Cayley).unwrap();
    let one = Butterfly::classic(2).with_stages(1);
    let scalar = Plan::<f64>::new(32, &Shared::by_stage(one), Givens).unwrap();
    assert!((scalar.lipschitz().unwrap().frobenius - 32f64.sqrt()).abs() < 1e-14);
    let exponential = Plan::<f64>::new(3, &BlockDiagonal::new(3), Exponential).unwrap();
    for plan in [cayley, exponential, scalar] {
        let a = Orthogonal::identity(plan.clone()).unwrap();
        let mut theta = vec![0.0; plan.num_params()];
        theta[0] = 1e-5;
        let b = Orthogonal::new(plan.clone(), theta).unwrap();
        let (truth, speed) = (truth(&a, &b), plan.lipschitz().unwrap());
        for (truth, speed) in [(truth.0, speed.frobenius), (truth.1, speed.spectral)] {
            assert!(speed * 1e-5 >= truth && speed * 1e-5 <= truth * (1.0 + 1e-8), "{speed} {truth:e}");
        }
    }
}

#[test]
fn distances_in_single_precision_and_between_plans() {
    let plan = Plan::<f32>::new(64, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap();
    let a = random(&plan, 0.5, 1);
    let b = nearby(&a, 1e-3, 2);
    let ((frobenius, spectral), proof) = (truth(&a, &b), a.distance(&b).unwrap());
    assert!(frobenius <= proof.frobenius && proof.frobenius <= 2.5 * frobenius, "{proof:?} {frobenius:e}");
    assert!(spectral <= proof.spectral && proof.spectral <= 4.0 * spectral, "{proof:?} {spectral:e}");
    assert!(a.distance(&a).unwrap().spectral <= 1e-320);
    // Sharing, charts and adjoints may differ where layouts agree; far apart the trivial bound takes over.
    let one = Plan::<f64>::new(6, &BlockDiagonal::new(2), Givens).unwrap();
    let two = Plan::<f64>::new(6, &BlockDiagonal::new(2), Cayley).unwrap().adjoint();
    let (x, y) = (Orthogonal::new(one, [0.2, 0.4, 0.6]).unwrap(), Orthogonal::new(two, [-0.1, 0.2, 40.0]).unwrap());
    let (truth, proof) = (truth(&x, &y), x.distance(&y).unwrap());
    assert!(proof.spectral >= truth.1 && proof.spectral <= truth.1 * (1.0 + 1e-12), "{proof:?} {truth:?}");
    assert!(proof.frobenius >= truth.0 && proof.frobenius <= truth.0 * (1.0 + 1e-12));
    let long = |theta: f64| {
        let plan = (1..20).fold(x.plan().clone(), |plan, _| plan.then(x.plan().clone()).unwrap());
        Orthogonal::new(plan.clone(), vec![theta; plan.num_params()]).unwrap()
    };
    assert!(long(0.0).distance(&long(2.0)).unwrap().spectral <= 2.0 + 1e-13);
    // What does not match is said.
    let other = Orthogonal::identity(Plan::<f64>::new(6, &BlockDiagonal::new(3), Cayley).unwrap()).unwrap();
    assert!(matches!(x.distance(&other), Err(Error::Size { .. })));
    let longer = x.then(&x).unwrap();
    assert!(matches!(x.distance(&longer), Err(Error::Length { .. })));
    let strange = distance((x.plan(), y.factors()), (x.plan(), x.factors()));
    assert!(matches!(strange, Err(Error::Size { .. })));
}

#[test]
fn unitary_blocks_have_distances_too() {
    // B = e^{iα}R and B' = e^{iβ}R: B − B' is |e^{iα} − e^{iβ}| times an orthogonal matrix, and stages on the same
    // blocks add up to |e^{imα} − e^{imβ}|, nearly m times as much for close phases.
    let phase = |phi: f64| c64::new(phi.cos(), phi.sin());
    let (c, s) = (0.6, 0.8);
    let stages = 3;
    let q = |alpha: f64| {
        let block = [c, -s, s, c].map(|x| phase(alpha) * x);
        let stage = || (StageLayout::contiguous(2, 4), Source::Fixed(block.repeat(4).into()));
        Orthogonal::<c64>::identity(Plan::from_stages(8, (0..stages).map(|_| stage())).unwrap()).unwrap()
    };
    let proof = q(0.3).distance(&q(0.3 + 1e-5)).unwrap();
    let spectral = 2.0 * (1.5e-5f64).sin(); // |e^{imα} − e^{imβ}| = 2 sin(m|α − β|/2)
    let frobenius = spectral * 8f64.sqrt();
    assert!(proof.spectral >= spectral * (1.0 - 1e-10) && proof.spectral <= spectral * (1.0 + 1e-9), "{proof:?}");
    assert!(proof.frobenius >= frobenius * (1.0 - 1e-10) && proof.frobenius <= frobenius * (1.0 + 1e-9), "{proof:?}");
    assert!(q(1.0).condition().unwrap().condition < 1.0 + 1e-14);
    // An adjoint acts by conjugates: B and B̄ᵀ are far apart, B and (B̄ᵀ)ᴴ are not.
    let backwards = q(-0.3).plan().adjoint();
    let far = q(0.3).distance(&Orthogonal::identity(backwards).unwrap()).unwrap();
    assert!(far.spectral > 0.5, "{far:?}"); // Rᵀ instead of R
    let same = q(0.3).distance(&q(0.3).adjoint().adjoint()).unwrap();
    assert_eq!((same.spectral <= 1e-320, same.frobenius <= 1e-320), (true, true));
}

#[test]
fn unknown_speeds_and_inexact_blocks_have_no_bound() {
    let loose = Source::Fixed([0.71, -0.71, 0.71, 0.71].into());
    let plan = Plan::<f64>::from_stages(2, [(StageLayout::contiguous(2, 1), loose)]).unwrap();
    assert_eq!(plan.lipschitz(), None);
    let c = Orthogonal::identity(plan).unwrap().condition().unwrap();
    let sigma = 0.71 * 2f64.sqrt();
    assert!(c.smallest <= sigma && c.largest >= sigma && c.condition < 1.02, "{c:?}");
}

/// The product of the stages' patterns, every block all ones: entry (i, j) counts the paths from j to i.
fn paths(n: usize, topology: &dyn Topology) -> Vec<u64> {
    let mut product: Vec<u64> = (0..n * n).map(|at| u64::from(at % (n + 1) == 0)).collect();
    for k in 0..topology.num_stages(n).unwrap() {
        let layout = topology.stage(n, k);
        for j in 0..layout.num_blocks() {
            for column in 0..n {
                let sum: u64 = layout.indices(j).map(|i| product[i * n + column]).sum();
                layout.indices(j).for_each(|i| product[i * n + column] = sum);
            }
        }
    }
    product
}

#[test]
fn butterflies_are_balanced() {
    // Classic, any radix: one path from every input to every output. BOFT and other units: unitᵐ⁻¹ paths.
    assert_eq!(paths(16, &Butterfly::classic(2)), [1; 256]);
    assert_eq!(paths(27, &Butterfly::classic(3)), [1; 27 * 27]);
    assert_eq!(paths(8, &Butterfly::boft(2, 4).unwrap()), [2; 64]); // the example of BOFT's appendix G.1
    assert_eq!(paths(32, &Butterfly::boft(3, 8).unwrap()), [16; 32 * 32]);
    assert_eq!(paths(18, &Butterfly { unit: 2, radix: 3, stages: None }), [2; 18 * 18]);
    // Fewer stages: constant where it is not zero.
    let sparse = paths(32, &Butterfly::boft(2, 4).unwrap());
    assert!(sparse.iter().enumerate().all(|(at, p)| *p == if at / 32 / 8 == at % 32 / 8 { 2 } else { 0 }));
    // Other wirings need not be: here some pairs are joined twice.
    let pairs = Explicit::new(4, [(2, vec![0, 1, 2, 3]), (2, vec![1, 2]), (2, vec![0, 1, 2, 3])]).unwrap();
    let counts = paths(4, &pairs);
    assert!(counts.contains(&1) && counts.iter().any(|p| *p > 1), "{counts:?}");
}
