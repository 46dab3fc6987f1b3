//! The certificate against the truth: QᵀQ − I from a double-double product, its 2-norm from faer's eigenvalues.

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::parametrization::{Cayley, Givens};
use papilio::topology::{BlockDiagonal, Butterfly, Explicit};
use papilio::verify::{certificate, dense};
use papilio::{
    Batch, BatchMut, Factors, Isa, Op, Parallelism, Parametrization, Plan, Real, Result, Scalar, Sharing, Source,
    StageLayout, Topology, Workspace,
};

/// What is promised: the certificate exceeds max(truth, eps) at most this much.
const PROMISE: f64 = 20.0;
/// What small defects keep. Measured: 2.3 for butterflies; 6.9 where twelve stages act on the same few coordinates, so that
/// the signs of their defects average out, which no bound stage by stage can see.
const TIGHT: f64 = 8.0;

/// ‖QᵀQ − I‖₂.
fn true_defect<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> f64 {
    let n = plan.n();
    let e = dense::defect(plan, factors).unwrap();
    let e = faer::Mat::from_fn(n, n, |i, j| papilio::c64::new(e[i * n + j].re(), e[i * n + j].im()));
    let eigenvalues = e.self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
    eigenvalues.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// Normal enough: the sum of twelve uniform numbers.
fn normal(g: &mut Generator, len: usize, scale: f64) -> Vec<f64> {
    (0..len).map(|_| scale * ((0..12).map(|_| g.uniform()).sum::<f64>() - 6.0)).collect()
}

/// Bound and truth of one plan: the bound holds (up to the rounding of the eigenvalue solver), its adjoint has the same.
fn compare<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, name: &str) -> (f64, f64) {
    let (bound, truth) = (certificate(plan, factors).unwrap(), true_defect(plan, factors));
    assert!(bound.defect >= truth * (1.0 - 1e-12), "{name}: {:e} certified, {truth:e} true", bound.defect);
    let product = bound.per_stage.iter().map(|d| d.ln_1p()).sum::<f64>().exp_m1();
    assert!(bound.defect <= product * (1.0 + 1e-12), "{name}: more than the product over stages");
    assert_eq!(certificate(&plan.adjoint(), factors).unwrap().defect, bound.defect, "{name}: adjoint");
    (bound.defect, truth)
}

fn eps<T: Scalar>() -> f64 {
    T::Real::EPS.to_wide()
}

/// Certificate over max(truth, eps) for a plan with exact charts.
fn tightness<T: Scalar>(plan: &Plan<T>, seed: u64, scale: f64, name: &str) -> f64 {
    let theta = normal(&mut Generator::new(seed), plan.num_params(), scale);
    let factors = plan.realize(&theta).unwrap();
    let (bound, truth) = compare(plan, &factors, name);
    let ratio = bound / truth.max(eps::<T>());
    println!("{name} {} θ×{scale}: bound {bound:.2e} truth {truth:.2e} ratio {ratio:.2}", T::Real::NAME);
    assert!(ratio <= TIGHT, "{name}: certified {bound:e}, true {truth:e}");
    ratio
}

fn all_charts<T: Scalar<Wide = f64>>() -> f64 {
    let mut worst = 0.0f64;
    let mut case = |plan: Result<Plan<T>>, name: &str| {
        let plan = plan.unwrap();
        for (seed, scale) in [(1, 0.0), (2, 1e-2), (3, 1.0), (4, 1e3)] {
            worst = worst.max(tightness(&plan, seed, scale, &format!("{name} n={}", plan.n())));
        }
    };
    for (n, m) in [(2, 1), (6, 1), (64, 6), (128, 5)] {
        let butterfly = Butterfly::classic(2).with_stages(m);
        case(Plan::new(n, &butterfly, Givens), "givens butterfly");
        case(Plan::new(n, &butterfly, Cayley), "cayley butterfly");
    }
    for (n, m, b) in [(24, 2, 4), (64, 4, 8), (128, 3, 16), (256, 4, 32)] {
        case(Plan::new(n, &Butterfly::boft(m, b).unwrap(), Cayley), &format!("boft({m}, {b})"));
    }
    for b in [1, 2, 3, 4, 8, 16, 32] {
        case(Plan::new(3 * b, &BlockDiagonal::new(b), Cayley), &format!("block-diagonal {b}"));
    }
    for b in [3, 5, 16] {
        let stacked = (0..12).map(|_| (StageLayout::contiguous(b, 2), Source::chart(Cayley)));
        case(Plan::from_stages(2 * b, stacked), &format!("twelve block-diagonal {b}"));
    }
    case(Plan::new(81, &Butterfly::classic(3), Cayley), "radix 3");
    let twelve = Explicit::new(13, (0..12).map(|k| (2, (0..12).map(|i| (i * (k + 1) + k) % 13).collect()))).unwrap();
    case(Plan::new(13, &twelve, Givens), "twelve stages of a table");
    worst
}

#[test]
fn certificate_holds_and_is_tight_in_single_precision() {
    println!("worst ratio {:.2}", all_charts::<f32>());
}

#[test]
fn certificate_holds_and_is_tight_in_double_precision() {
    println!("worst ratio {:.2}", all_charts::<f64>());
}

#[test]
fn certificate_holds_and_is_tight_for_large_n() {
    tightness(&Plan::<f64>::new(1024, &Butterfly::classic(2), Givens).unwrap(), 5, 1.0, "givens butterfly n=1024");
    tightness(&Plan::<f32>::new(1024, &Butterfly::boft(4, 8).unwrap(), Cayley).unwrap(), 6, 1.0, "boft(4, 8) n=1024");
    tightness(&Plan::<f32>::new(1024, &Butterfly::boft(1, 32).unwrap(), Cayley).unwrap(), 7, 1e3, "boft(1, 32) n=1024");
}

#[test]
fn shared_groups_and_stages_that_pass_coordinates_through() {
    let chart: Arc<dyn Parametrization<f64>> = Arc::new(Cayley);
    let table = |block, index: &[u32]| StageLayout::Table { block, index: Arc::from(index) };
    let stage = |layout, sharing| (layout, Source::Chart { chart: chart.clone(), sharing });
    let plan = Plan::<f32>::from_stages(
        11,
        [
            stage(table(3, &[10, 0, 5, 2, 7, 1]), Sharing::All),
            stage(table(2, &[3, 4, 9, 8, 0, 6]), Sharing::Groups(Arc::from([1, 0, 1]))),
            stage(StageLayout::contiguous(5, 2), Sharing::PerBlock),
        ],
    )
    .unwrap();
    tightness(&plan, 8, 1.0, "shared groups");
    let both = plan.adjoint().then(plan).unwrap();
    tightness(&both, 9, 3.0, "composition with an adjoint");
}

/// Rotations, fixed, with every entry of one block in `rate` off by up to `damage`.
fn damaged<T: Scalar<Wide = f64>>(n: usize, m: usize, b: usize, rate: u64, damage: f64, seed: u64) -> Plan<T> {
    let mut g = Generator::new(seed);
    let boft = Butterfly::boft(m, b).unwrap();
    let stages = (0..m).map(|k| {
        let layout = boft.stage(n, k);
        let mut blocks = vec![0.0; layout.num_blocks() * b * b];
        for block in blocks.chunks_exact_mut(b * b) {
            let theta = normal(&mut g, b * (b - 1) / 2, 1.0);
            Cayley.forward(b, &theta, block);
            if g.below(rate) == 0 {
                block.iter_mut().for_each(|x| *x += damage * (2.0 * g.uniform() - 1.0));
            }
        }
        (layout, Source::Fixed(Arc::from(blocks)))
    });
    Plan::from_stages(n, stages.collect::<Vec<_>>()).unwrap()
}

fn damaged_is_certified<T: Scalar<Wide = f64>>() {
    for (n, m, b) in [(16, 3, 2), (48, 4, 6), (64, 3, 16), (128, 2, 32)] {
        for (rate, damage) in [(1, 1e-3), (5, 1e-3), (1, 1e-9), (3, 0.3)] {
            let plan = damaged::<T>(n, m, b, rate, damage, 31);
            let factors = plan.realize::<f64>(&[]).unwrap();
            let (bound, truth) = compare(&plan, &factors, &format!("n={n} b={b} damage {damage}"));
            // Defects beyond 1 multiply, and products of bounds drift from bounds of products.
            let limit = if damage < 0.1 { TIGHT } else { PROMISE } * truth.max(eps::<T>());
            assert!(bound <= limit, "n={n} b={b} damage {damage}: {bound:e} {truth:e}");
        }
    }
}

#[test]
fn damaged_blocks_are_certified_for_what_they_are() {
    damaged_is_certified::<f32>();
    damaged_is_certified::<f64>();
}

#[test]
fn scaled_and_cancelling_blocks_are_bounded() {
    // Stages 2·I and I/2: Q is the identity. Signed intervals see that the product cancels: defect 0, up to rounding.
    let scale = |c: f64| (StageLayout::contiguous(1, 4), Source::Fixed(Arc::from([c; 4])));
    let plan = Plan::<f64>::from_stages(4, [scale(2.0), scale(0.5)]).unwrap();
    let proof = certificate(&plan, &plan.realize::<f64>(&[]).unwrap()).unwrap();
    assert!(proof.defect < 1e-13, "{proof:?}");
    assert!((proof.per_stage[0] - 3.0).abs() < 1e-12 && (proof.per_stage[1] - 0.75).abs() < 1e-12);
    // A projection loses a coordinate: defect 1, whatever the other stages do.
    let projection = (StageLayout::contiguous(2, 2), Source::Fixed(Arc::from([1.0, 0.0, 0.0, 0.0].repeat(2))));
    let plan = Plan::<f64>::from_stages(4, [projection, scale(1.0)]).unwrap();
    let (bound, truth) = compare(&plan, &plan.realize::<f64>(&[]).unwrap(), "projection");
    assert!(truth == 1.0 && (1.0..1.0 + 1e-12).contains(&bound));
}

/// A chart whose blocks are whatever θ says: b² numbers, for blocks that no chart gives.
#[derive(Debug)]
struct Raw;

impl Parametrization<f64> for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Ok(b * b)
    }
    fn forward(&self, _b: usize, theta: &[f64], block: &mut [f64]) {
        for (x, t) in block.iter_mut().zip(theta) {
            *x = if *t == 1e308 { f64::NAN } else { *t };
        }
    }
    fn vjp(&self, _b: usize, _theta: &[f64], _block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        d_theta.iter_mut().zip(d_block).for_each(|(d, g)| *d += g);
    }
    fn inverse(&self, _b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        theta.copy_from_slice(block);
        Ok(())
    }
    fn is_exact(&self) -> bool {
        false
    }
}

#[test]
fn blocks_without_numbers_have_an_infinite_defect() {
    for bad in [1e308, 1e300, 1e160] {
        for position in 0..8 {
            let mut theta = [1.0, 0.0, 0.0, 1.0].repeat(2);
            theta[position] = bad;
            let plan = Plan::<f64>::new(4, &BlockDiagonal::new(2), Raw).unwrap();
            let proof = certificate(&plan, &plan.realize(&theta).unwrap()).unwrap();
            assert_eq!(proof.defect, f64::INFINITY, "{bad:e} at {position}");
            assert!(proof.per_stage[0] == f64::INFINITY);
            assert!(proof.apply_error.is_nan() as u8 == 0 && (proof.apply_error.is_infinite() || bad < 1e308));
        }
    }
    // Beyond the range of f32, the stored block is infinite.
    let plan = Plan::<f32>::new(2, &BlockDiagonal::new(2), Raw).unwrap();
    let proof = certificate(&plan, &plan.realize(&[1e39, 0.0, 0.0, 1.0]).unwrap()).unwrap();
    assert_eq!((proof.defect, proof.apply_error), (f64::INFINITY, f64::INFINITY));
}

#[test]
fn identity_plans_and_other_factors() {
    let identity = Plan::<f32>::identity(7).unwrap();
    let proof = certificate(&identity, &identity.realize::<f32>(&[]).unwrap()).unwrap();
    assert_eq!((proof.defect, proof.apply_error, proof.per_stage.len()), (0.0, 0.0, 0));
    let plan = Plan::<f32>::new(8, &Butterfly::classic(2), Givens).unwrap();
    assert!(certificate(&plan, &identity.realize::<f32>(&[]).unwrap()).is_err());
}

/// Largest ‖fl(Qx) − Qx‖ / ‖x‖ over random x and every instruction set, against the product in double precision.
fn measured_apply_error(plan: &Plan<f32>, factors: &Factors<f32>, op: Op) -> f64 {
    let (n, batch) = (plan.n(), 40);
    let x: Vec<f32> = normal(&mut Generator::new(77), batch * n, 1.0).into_iter().map(|x| x as f32).collect();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let exact = dense::apply(plan, factors, &wide, op).unwrap();
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst = 0.0f64;
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; x.len()];
        let (input, output) = (Batch::rows(&x, n).unwrap(), BatchMut::rows(&mut y, n).unwrap());
        let mut workspace = Workspace::with_isa(isa).unwrap();
        plan.apply(factors, input, output, op, Parallelism::None, &mut workspace).unwrap();
        for v in (0..batch).map(|v| v * n..(v + 1) * n) {
            let error = norm(&mut y[v.clone()].iter().zip(&exact[v.clone()]).map(|(y, e)| f64::from(*y) - e));
            worst = worst.max(error / norm(&mut wide[v].iter().copied()));
        }
    }
    worst
}

#[test]
fn apply_error_bounds_what_is_measured() {
    for (n, m, b) in [(64, 6, 2), (128, 4, 8), (128, 2, 32)] {
        let plan = Plan::<f32>::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap();
        let theta = normal(&mut Generator::new(5), plan.num_params(), 1.0);
        let factors = plan.realize(&theta).unwrap();
        let bound = certificate(&plan, &factors).unwrap().apply_error;
        // The worst of some random vectors against the worst case of an a priori bound: measured 8, 36 and 100.
        let factor = 5.0 * b as f64 * (m as f64).sqrt();
        for op in Op::ALL {
            let measured = measured_apply_error(&plan, &factors, op);
            println!("n={n} b={b} {op:?}: bound {bound:.2e}, measured {measured:.2e}, factor {:.0}", bound / measured);
            assert!(measured <= bound && bound <= factor * measured, "{n} {b} {op:?}: {measured:e} {bound:e}");
        }
        // In double precision it is the same bound with another u.
        let wide = Plan::<f64>::new(n, &Butterfly::boft(m, b).unwrap(), Cayley).unwrap();
        let proof = certificate(&wide, &wide.realize(&theta).unwrap()).unwrap();
        assert!((proof.apply_error / bound * 2f64.powi(29) - 1.0).abs() < 1e-4);
    }
}
