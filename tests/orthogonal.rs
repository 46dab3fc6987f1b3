//! The owned operator and the algebra of plans: composition, adjoints, sharing, multiplication from both sides.

use std::sync::Arc;

use papilio::parametrization::{Cayley, CayleyNeumann, Givens, Signed, UnitaryPhases};
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::{Error, Op, Orthogonal, Parametrization, Plan, Sharing, Source, StageLayout, Topology, c64};
use rand::SeedableRng;

type Rng = rand::rngs::StdRng;

fn boft(n: usize) -> Plan<f64> {
    Plan::new(n, &Butterfly::boft(3, 4).unwrap(), Cayley).unwrap()
}

/// Row-major product of n×n matrices.
fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut c = vec![0.0; a.len() / n * n];
    for i in 0..a.len() / n {
        for k in 0..n {
            for j in 0..n {
                c[i * n + j] += a[i * n + k] * b[k * n + j];
            }
        }
    }
    c
}

fn transpose(a: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|at| a[at % n * n + at / n]).collect()
}

fn assert_near(a: &[f64], b: &[f64], units: f64) {
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(a.len() == b.len() && worst <= units * f64::EPSILON, "{} units", worst / f64::EPSILON);
}

#[test]
fn zero_parameters_are_the_identity_exactly() {
    let q = Orthogonal::identity(boft(32)).unwrap();
    let eye: Vec<f64> = (0..32 * 32).map(|at| f64::from(at % 33 == 0)).collect();
    assert_eq!(q.to_dense().unwrap(), eye);
    assert_eq!(q.determinant_sign().unwrap(), 1);
}

#[test]
fn adjoint_and_then_compose_as_matrices() {
    let n = 16;
    let mut rng = Rng::seed_from_u64(1);
    let (a, b) = (boft(n), Plan::new(n, &Butterfly::classic(2), Givens).unwrap());
    let qa = Orthogonal::random_normal(a.clone(), 1.0, &mut rng).unwrap();
    let qb = Orthogonal::random_normal(b.clone(), 1.0, &mut rng).unwrap();
    let (da, db) = (qa.to_dense().unwrap(), qb.to_dense().unwrap());
    let theta: Vec<f64> = qa.theta().iter().chain(qb.theta()).copied().collect();
    let ab = Orthogonal::new(a.then(b).unwrap(), theta.clone()).unwrap();
    assert_near(&ab.to_dense().unwrap(), &product(&db, &da, n), 16.0);
    // (Q_b Q_a)ᴴ: as an operation, as a plan with the same θ, as an owned operator.
    let dense = transpose(&ab.to_dense().unwrap(), n);
    let plan = ab.plan().adjoint();
    assert_near(&Orthogonal::new(plan.clone(), theta).unwrap().to_dense().unwrap(), &dense, 8.0);
    assert_near(&ab.adjoint().to_dense().unwrap(), &dense, 8.0);
    assert_near(&ab.adjoint().adjoint().to_dense().unwrap(), &ab.to_dense().unwrap(), 0.0);
    plan.block(ab.factors(), 0, 0, &mut [0.0; 4]).unwrap(); // factors serve the adjoint too
    assert!(matches!(boft(16).then(boft(32)), Err(Error::Length { .. })));
}

#[test]
fn multiplication_from_both_sides_with_every_op() {
    let (n, k) = (12, 5);
    let mut rng = Rng::seed_from_u64(2);
    let plan = Plan::new(n, &Butterfly { unit: 3, radix: 2, stages: Some(2) }, Cayley).unwrap();
    let q = Orthogonal::random_haar(plan, &mut rng).unwrap();
    let dense = q.to_dense().unwrap();
    let a: Vec<f64> = (0..n * k).map(|i| (i as f64).sin()).collect();
    for op in Op::ALL {
        let matrix = if matches!(op, Op::None | Op::Conj) { dense.clone() } else { transpose(&dense, n) };
        let (mut left, mut right) = (a.clone(), a.clone());
        q.multiply_left(&mut left, op).unwrap();
        q.multiply_right(&mut right, op).unwrap();
        assert_near(&right, &product(&a, &matrix, n), 32.0);
        let mut truth = vec![0.0; n * k];
        for i in 0..n {
            for l in 0..n {
                for j in 0..k {
                    truth[i * k + j] += matrix[i * n + l] * a[l * k + j];
                }
            }
        }
        assert_near(&left, &truth, 32.0);
    }
    assert_eq!(q.rows(3..5).unwrap(), dense[3 * n..5 * n]);
    assert!(q.rows(0..0).unwrap().is_empty());
    assert!(matches!(q.rows(3..13), Err(Error::Index { .. })));
    assert!(matches!(q.apply(&a[..n + 1]), Err(Error::Size { .. })));
    assert_near(&q.apply_adjoint(&q.apply(&a).unwrap()).unwrap(), &a, 16.0);
}

#[test]
fn shared_blocks_have_shared_parameters() {
    let layout = || BlockDiagonal::new(4).stage(12, 0);
    let source = |sharing| Source::Chart { chart: Arc::new(Cayley), sharing };
    let plan = |sharing| Plan::<f64>::from_stages(12, [(layout(), source(sharing))]);
    let all = Orthogonal::random_normal(plan(Sharing::All).unwrap(), 1.0, &mut Rng::seed_from_u64(3)).unwrap();
    assert_eq!((all.theta().len(), all.plan().num_entries()), (6, 16));
    let repeated = all.theta().repeat(3);
    let each = Orthogonal::new(plan(Sharing::PerBlock).unwrap(), repeated.clone()).unwrap();
    assert_eq!(all.to_dense().unwrap(), each.to_dense().unwrap());
    let groups = |g: &[u32]| plan(Sharing::Groups(g.into()));
    let two = Orthogonal::new(groups(&[0, 1, 0]).unwrap(), &repeated[..12]).unwrap();
    assert_eq!(two.to_dense().unwrap(), each.to_dense().unwrap());
    assert!(matches!(groups(&[0, 1]), Err(Error::Length { .. })));
    assert!(matches!(groups(&[0, 2, 0]), Err(Error::Size { .. })));
    assert!(matches!(groups(&[0, u32::MAX, 0]), Err(Error::Index { .. })));
}

#[test]
fn determinant_sign_counts_reflections() {
    let fixed = |blocks: &[f64]| {
        let source = Source::Fixed(blocks.into());
        let plan = Plan::<f32>::from_stages(4, [(StageLayout::contiguous(2, 2), source)]).unwrap();
        Orthogonal::identity(plan).unwrap().determinant_sign()
    };
    assert_eq!(fixed(&[0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]).unwrap(), -1);
    assert_eq!(fixed(&[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).unwrap(), 1);
    assert!(matches!(fixed(&[0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]), Err(Error::Domain { .. })));
}

#[test]
fn bad_parameters_are_errors_and_change_nothing() {
    let mut q = Orthogonal::identity(boft(32)).unwrap();
    let len = q.theta().len();
    let before = q.to_dense().unwrap();
    for bad in [f64::NAN, f64::INFINITY] {
        let mut theta = vec![0.5; len];
        theta[17] = bad;
        let error = q.set_theta(theta).unwrap_err();
        assert!(matches!(&error, Error::Domain { got, .. } if got.contains("position 17")), "{error}");
    }
    assert!(matches!(q.set_theta(vec![0.0; len + 1]), Err(Error::Length { .. })));
    assert_eq!(q.to_dense().unwrap(), before);
    let mut rng = Rng::seed_from_u64(4);
    assert!(Orthogonal::random_normal(boft(32), -1.0, &mut rng).is_err());
    assert!(Orthogonal::random_normal(boft(32), f64::NAN, &mut rng).is_err());
    let blocks: Arc<[f64]> = [f64::NAN].into();
    assert!(Plan::<f64>::from_stages(1, [(StageLayout::contiguous(1, 1), Source::Fixed(blocks))]).is_err());
    let reflectors = Source::<f64>::orthonormal_reflectors(3);
    assert!(matches!(Plan::from_stages(2, [(StageLayout::contiguous(2, 1), reflectors)]), Err(Error::Size { .. })));
    assert!(Plan::<f64>::identity(0).is_err());
}

#[test]
fn values_cross_threads() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug>() {}
    check::<Plan<f32>>();
    check::<papilio::Factors<f64>>();
    check::<Orthogonal<f32>>();
    fn shared<T: Send + Sync>() {}
    shared::<papilio::Workspace>();
    shared::<papilio::BatchMut<'_, f32>>();
}

#[test]
fn factors_serve_the_structure_that_made_them_only() {
    let fixed = |blocks: [f64; 8], layout: StageLayout| {
        Plan::<f32>::from_stages(4, [(layout, Source::Fixed(blocks.into()))]).unwrap()
    };
    let table = |index: [u32; 4]| StageLayout::Table { block: 2, index: index.into() };
    let (eye, swap) = ([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let plan = fixed(eye, table([0, 1, 2, 3]));
    let factors = plan.realize::<f64>(&[]).unwrap();
    let block = |plan: &Plan<f32>| plan.block(&factors, 0, 0, &mut [0.0; 4]);
    assert!(block(&plan).is_ok() && block(&plan.adjoint()).is_ok() && block(&plan.clone()).is_ok());
    for other in
        [fixed(eye, table([0, 2, 1, 3])), fixed(swap, table([0, 1, 2, 3])), fixed(eye, StageLayout::contiguous(2, 2))]
    {
        assert!(matches!(block(&other), Err(Error::Size { .. })));
    }
    let two = |sharing: [u32; 2]| {
        let chart = Source::Chart { chart: Arc::new(Cayley), sharing: Sharing::Groups(sharing.into()) };
        Plan::<f64>::from_stages(4, [(StageLayout::contiguous(2, 2), chart)]).unwrap()
    };
    let factors = two([0, 1]).realize(&[0.1, 0.2]).unwrap();
    assert!(two([1, 0]).block(&factors, 0, 0, &mut [0.0; 4]).is_err());
    let givens = Plan::<f64>::new(4, &BlockDiagonal::new(2), Givens).unwrap();
    let factors = givens.realize(&[0.1, 0.2]).unwrap();
    let cayley = Plan::<f64>::new(4, &BlockDiagonal::new(2), Cayley).unwrap();
    assert!(cayley.block(&factors, 0, 0, &mut [0.0; 4]).is_err());
}

#[test]
fn exact_fixed_blocks_can_be_run_backwards() {
    let h = 0.5f64.sqrt();
    let plan = |blocks: [f64; 4]| {
        Plan::<f32>::from_stages(2, [(StageLayout::contiguous(2, 1), Source::Fixed(blocks.into()))]).unwrap()
    };
    assert!(plan([h, h, h, -h]).is_exact());
    assert!(!plan([0.71, 0.71, 0.71, -0.71]).is_exact());
}

#[test]
fn sizes_beyond_the_memory_are_errors() {
    let large = Plan::<f64>::new(1 << 30, &BlockDiagonal::new(1 << 29), Cayley).unwrap();
    let error = large.clone().then(large).and_then(|two| two.clone().then(two)).unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error}");
    let identity = Orthogonal::identity(Plan::<f64>::identity(1 << 24).unwrap()).unwrap();
    assert!(matches!(identity.to_dense(), Err(Error::Size { .. })));
    let source = Source::Fixed([1e300].into());
    let error = Plan::<f32>::from_stages(1, [(StageLayout::contiguous(1, 1), source)]).unwrap_err();
    assert!(matches!(error, Error::Domain { .. }), "{error}");
}

#[test]
fn parameters_come_in_either_precision() {
    let theta = [0.25f32, -0.5];
    let plan = Plan::<f64>::new(4, &BlockDiagonal::new(2), Givens).unwrap();
    let q = Orthogonal::new(plan.clone(), theta).unwrap();
    assert_eq!(q.to_dense().unwrap(), Orthogonal::new(plan, vec![0.25, -0.5]).unwrap().to_dense().unwrap());
}

#[test]
fn a_plan_that_does_not_start_at_the_identity_says_so() {
    let signed = |n| Plan::<f64>::new(n, &BlockDiagonal::new(4), Signed::new(Cayley)).unwrap();
    assert!(matches!(Orthogonal::identity(signed(8)), Err(Error::Unsupported { .. })));
    let q = Orthogonal::new(signed(12), vec![0.0; 18]).unwrap();
    assert_eq!(q.determinant_sign().unwrap(), -1);
    assert_eq!(Orthogonal::new(signed(8), vec![0.3; 12]).unwrap().determinant_sign().unwrap(), 1);
}

#[test]
fn haar_blocks_are_reflections_where_the_chart_has_those() {
    let mut rng = Rng::seed_from_u64(9);
    let plan = Plan::<f64>::new(12, &BlockDiagonal::new(4), Signed::new(Cayley)).unwrap();
    let q = Orthogonal::random_haar(plan, &mut rng).unwrap();
    assert_eq!(q.determinant_sign().unwrap(), -1);
    // And inexact charts reach none.
    let plan = Plan::<f64>::new(4, &BlockDiagonal::new(4), CayleyNeumann { order: 3 }).unwrap();
    assert!(matches!(Orthogonal::random_haar(plan, &mut rng), Err(Error::Domain { .. })));
    // Nor do reflectors, which would stay at zero.
    let plan = Plan::<f64>::from_stages(4, [(StageLayout::contiguous(4, 1), Source::reflectors(2))]).unwrap();
    assert!(matches!(Orthogonal::random_haar(plan, &mut rng), Err(Error::Unsupported { .. })));
}

/// A stage without blocks takes no memory for one, however large it would be.
#[test]
fn stages_without_blocks_cost_nothing() {
    let n = u32::MAX as usize;
    let empty = StageLayout::contiguous(n, 0);
    let stages = [(empty.clone(), Source::chart(Cayley)), (empty, Source::Fixed([].into()))];
    let q = Orthogonal::identity(Plan::<f64>::from_stages(n, stages).unwrap()).unwrap();
    assert_eq!(q.determinant_sign().unwrap(), 1);
    assert_eq!(q.interpolate(0.5).unwrap().theta(), [0.0; 0]);
    assert_eq!(q.rebase().unwrap().n(), n);
    assert!(papilio::verify::dense::blocks(q.plan(), q.factors(), 0).unwrap().is_empty());
    let n = 1 << 20;
    let plan = Plan::<f64>::from_stages(n, [(StageLayout::contiguous(n, 0), Source::chart(Cayley))]).unwrap();
    let q = Orthogonal::identity(plan).unwrap();
    assert!(q.condition().unwrap().condition <= 1.0 + 8.0 * f64::EPSILON);
    assert!(q.distance(&q).unwrap().frobenius <= 1e-320);
}

/// Unitary blocks: E tr Q = 0 and E |tr Q|² = 1 for the Haar measure of U(b).
#[test]
fn complex_haar_blocks_have_the_moments_of_the_haar_measure() {
    fn check(chart: impl Parametrization<c64> + Clone + 'static, b: usize) {
        let (mut rng, draws) = (Rng::seed_from_u64(2), 400);
        let (mut mean, mut square) = (c64::default(), 0.0);
        for _ in 0..draws {
            let plan = Plan::<c64>::new(b, &BlockDiagonal::new(b), chart.clone()).unwrap();
            let q = Orthogonal::random_haar(plan, &mut rng).unwrap().to_dense().unwrap();
            let trace: c64 = (0..b).map(|i| q[i * b + i]).sum();
            (mean, square) = (mean + trace / f64::from(draws), square + trace.norm_sqr() / f64::from(draws));
        }
        // Five standard deviations: 1/√400 of the mean, and of |tr|², whose variance is at most 1.
        assert!(mean.norm() <= 0.25 && (square - 1.0).abs() <= 0.25, "b = {b}: {mean} {square}");
    }
    for b in [1, 2, 3, 8] {
        check(Cayley, b);
    }
    check(UnitaryPhases, 2);
}
