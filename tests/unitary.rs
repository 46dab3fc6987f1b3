//! `verify` over complex scalars: laws, gradients, certificates, isometry, adjoint.

#[path = "support/unitary.rs"]
mod unitary;

use std::sync::Arc;

use papilio::generator::Generator;
use papilio::topology::{BlockDiagonal, Butterfly};
use papilio::verify::{
    adjoint, certificate, chart_gradient, dense, isometry, laws, orthogonality_ratio, plan_gradient,
};
use papilio::{
    Batch, BatchMut, Factors, Isa, Op, Parallelism, Parametrization, Plan, Real, Result, Saved, Scalar, Sharing,
    Source, StageLayout, Topology, Workspace, c32, c64,
};
use unitary::{Affine, Unitary, complex, random, unitary};

fn reals(len: usize, seed: u64) -> Vec<f64> {
    random(len, seed).iter().map(|x| 2.0 * x.re).collect()
}

#[test]
fn a_unitary_chart_keeps_the_laws() {
    for b in 0..=3 {
        for seed in 0..20 {
            laws::chart::<c64>(&Unitary, b, seed).unwrap();
        }
    }
}

/// The pullback with one part of it wrong.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    /// G for Ḡ: wrong in the imaginary part of the cotangent alone.
    Conjugate,
    /// Real parts only.
    RealOnly,
}

impl Parametrization<c64> for Flaw {
    fn name(&self) -> &'static str {
        "flawed"
    }
    fn num_params(&self, b: usize) -> Result<usize> {
        Unitary.num_params(b)
    }
    fn forward(&self, b: usize, theta: &[f64], block: &mut [c64]) {
        Unitary.forward(b, theta, block);
    }
    fn vjp(&self, b: usize, theta: &[f64], block: &[c64], d_block: &[c64], d_theta: &mut [f64]) {
        let wrong = |g: &c64| match self {
            Flaw::Conjugate => g.conj(),
            Flaw::RealOnly => complex(g.re, 0.0),
        };
        Unitary.vjp(b, theta, block, &d_block.iter().map(wrong).collect::<Vec<_>>(), d_theta);
    }
    fn inverse(&self, b: usize, block: &[c64], theta: &mut [f64]) -> Result<()> {
        Unitary.inverse(b, block, theta)
    }
}

#[test]
fn cotangents_are_complex_and_wrong_parts_are_seen() {
    for (b, theta) in [(1, &[0.7][..]), (2, &[0.7, -0.4, 1.1, 0.3])] {
        assert!(chart_gradient(&Unitary, b, theta, 1).unwrap() < 1e-10);
        for flaw in [Flaw::Conjugate, Flaw::RealOnly] {
            assert!(chart_gradient(&flaw, b, theta, 1).unwrap() > 1e-2, "{flaw:?} b = {b}");
            let plan = Plan::<c64>::new(4 * b, &BlockDiagonal::new(b), flaw).unwrap();
            let found = plan_gradient(&plan, &reals(plan.num_params(), 2), Op::None, 3).unwrap();
            assert!(found.theta > 1e-2 && found.x < 1e-10, "{flaw:?} b = {b}: {found:?}");
        }
    }
}

/// Unitary charts on several wirings, shared and not, with fixed blocks in between, and adjoints.
fn plans<T: Scalar<Wide = c64>>() -> Vec<(&'static str, Plan<T>)> {
    let wired = |n, topology: &dyn Topology| Plan::<T>::new(n, topology, Unitary).unwrap();
    let table = |block, index: &[u32]| StageLayout::Table { block, index: Arc::from(index) };
    let chart = |sharing| Source::Chart { chart: Arc::new(Unitary), sharing };
    let fixed = |b: usize, count: usize| -> Source<T> {
        let blocks: Vec<c64> = (0..count).flat_map(|j| unitary(b, j as u64)).collect();
        Source::Fixed(blocks.into())
    };
    let mixed = Plan::from_stages(
        11,
        [
            (table(2, &[10, 0, 5, 2, 7, 1]), chart(Sharing::All)),
            (StageLayout::contiguous(3, 3), fixed(3, 3)),
            (table(1, &[3, 4, 9]), chart(Sharing::Groups(Arc::from([1, 0, 1])))),
            (table(2, &[3, 9, 0, 8, 1, 2]), chart(Sharing::Groups(Arc::from([0, 1, 0])))),
        ],
    )
    .unwrap();
    let composed = mixed.clone().then(wired(11, &BlockDiagonal::new(1)).adjoint()).unwrap();
    vec![
        ("phases", wired(7, &BlockDiagonal::new(1))),
        ("butterfly", wired(16, &Butterfly::classic(2))),
        ("boft", wired(12, &Butterfly::boft(2, 2).unwrap())),
        ("adjoint of composed", composed.adjoint()),
        ("composed", composed),
        ("mixed", mixed),
    ]
}

#[test]
fn gradients_of_plans_agree_with_differences() {
    let mut worst = 0.0f64;
    for (name, plan) in plans::<c64>() {
        assert!(plan.is_exact(), "{name}");
        for op in Op::ALL {
            let found = plan_gradient(&plan, &reals(plan.num_params(), 11), op, 5).unwrap();
            worst = worst.max(found.theta).max(found.x);
            assert!(found.theta <= 1e-9 && found.x <= 1e-9, "{name} {op:?}: {found:?}");
        }
    }
    // Not unitary, so only from the saved input; shared blocks.
    let sharing = Sharing::Groups(Arc::from([0, 1, 1, 0]));
    let source = Source::Chart { chart: Arc::new(Affine), sharing };
    let plan = Plan::<c64>::from_stages(13, [(StageLayout::contiguous(3, 4), source)]).unwrap();
    for plan in [plan.clone(), plan.clone().then(plan.adjoint()).unwrap()] {
        for op in Op::ALL {
            let found = plan_gradient(&plan, &reals(plan.num_params(), 1), op, 2).unwrap();
            worst = worst.max(found.theta).max(found.x);
            assert!(found.theta <= 1e-9 && found.x <= 1e-9, "{op:?}: {found:?}");
        }
    }
    println!("largest relative error of a gradient: {worst:e}");
}

/// In single precision the gradients are those of double precision, up to rounding.
#[test]
fn single_precision_gradients_follow_double() {
    fn run<T: Scalar<Wide = c64> + papilio::Element<Scalar = T>>() -> (Vec<c64>, Vec<f64>) {
        let (n, batch) = (16, 20);
        let plan = Plan::<T>::new(n, &Butterfly::classic(2), Unitary).unwrap();
        let theta = reals(plan.num_params(), 1);
        let factors = plan.realize(&theta).unwrap();
        let narrow = |x: Vec<c64>| x.into_iter().map(T::from_wide).collect::<Vec<T>>();
        let (x, gy) = (narrow(random(n * batch, 2)), narrow(random(n * batch, 3)));
        let (mut gx, mut d) = (x.clone(), vec![T::zero(); plan.num_entries()]);
        let (saved, cotangent) = (Saved::Input(Batch::rows(&x, n).unwrap()), Batch::rows(&gy, n).unwrap());
        let (out, mut ws) = (Some(BatchMut::rows(&mut gx, n).unwrap()), Workspace::new());
        plan.apply_vjp(&factors, saved, Op::None, cotangent, out, Some(&mut d), Parallelism::Rayon, &mut ws).unwrap();
        let mut d_theta = vec![0.0; theta.len()];
        plan.realize_vjp(&theta, &factors, &d, &mut d_theta).unwrap();
        (gx.iter().map(|g| g.to_wide()).collect(), d_theta)
    }
    let (single, double) = (run::<c32>(), run::<c64>());
    let eps = f64::from(f32::EPSILON);
    let size = double.1.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    let error = single.1.iter().zip(&double.1).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error <= 8.0 * eps * size, "{}", error / (eps * size));
    let error = single.0.iter().zip(&double.0).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
    assert!(error <= 8.0 * eps * 4.0, "{}", error / eps);
}

/// ‖QᴴQ − I‖₂, from a double-double product and faer's eigenvalues.
fn true_defect<T: Scalar<Wide = c64>>(plan: &Plan<T>, factors: &Factors<T>) -> f64 {
    let (n, e) = (plan.n(), dense::defect(plan, factors).unwrap());
    let e = faer::Mat::from_fn(n, n, |i, j| e[i * n + j]);
    e.self_adjoint_eigenvalues(faer::Side::Lower).unwrap().iter().fold(0.0, |m, x| m.max(x.abs()))
}

fn certificates<T: Scalar<Wide = c64>>() -> f64 {
    let (mut worst, eps) = (0.0f64, T::Real::EPS.to_wide());
    let mut check = |name: &str, plan: &Plan<T>, tight: f64| {
        let factors = plan.realize(&reals(plan.num_params(), 7)).unwrap();
        let (bound, truth) = (certificate(plan, &factors).unwrap(), true_defect(plan, &factors));
        let ratio = bound.defect / truth.max(eps);
        assert!(bound.defect >= truth * (1.0 - 1e-12), "{name}: {:e} certified, {truth:e} true", bound.defect);
        assert!(ratio <= tight, "{name}: {:e} certified, {truth:e} true", bound.defect);
        assert_eq!(certificate(&plan.adjoint(), &factors).unwrap().defect, bound.defect, "{name}: adjoint");
        worst = worst.max(ratio);
    };
    for (name, plan) in plans() {
        check(name, &plan, 4.0);
    }
    for b in [1, 2, 3, 4, 5, 8, 16, 32, 33] {
        let stage = |seed: u64| {
            let blocks: Vec<c64> = (0..2).flat_map(|j| unitary(b, seed + j)).collect();
            (StageLayout::contiguous(b, 2), Source::Fixed(blocks.into()))
        };
        check(&format!("block-diagonal {b}"), &Plan::from_stages(2 * b, [stage(1)]).unwrap(), 2.5);
        check(&format!("two stages {b}"), &Plan::from_stages(2 * b, [stage(1), stage(5)]).unwrap(), 4.0);
        // Damage in one part of one entry.
        let Source::Fixed(blocks) = stage(1).1 else { unreachable!() };
        for (damage, part) in [(1e-3, complex(0.0, 1.0)), (1e-3, complex(1.0, 0.0)), (0.5, complex(0.6, 0.8))] {
            let mut blocks = blocks.to_vec();
            blocks[b * b - 1] += part * damage;
            let plan = Plan::from_stages(2 * b, [(StageLayout::contiguous(b, 2), Source::Fixed(blocks.into()))]);
            check(&format!("damaged {b}"), &plan.unwrap(), 1.6);
        }
    }
    worst
}

#[test]
fn certificates_hold_and_are_tight() {
    println!("worst ratio {:.2} c32, {:.2} c64", certificates::<c32>(), certificates::<c64>());
}

#[test]
fn numbers_out_of_range_are_certified_to_nothing() {
    for bad in [complex(1e200, 0.0), complex(0.0, 1e200)] {
        let blocks = [complex(1.0, 0.0), bad, bad, complex(1.0, 0.0)];
        let plan = Plan::<c64>::from_stages(2, [(StageLayout::contiguous(2, 1), Source::Fixed(Arc::from(blocks)))]);
        let plan = plan.unwrap();
        let proof = certificate(&plan, &plan.realize::<f64>(&[]).unwrap()).unwrap();
        assert_eq!(proof.defect, f64::INFINITY);
    }
}

/// ‖fl(Qx) − Qx‖ / ‖x‖ over random vectors, every op and instruction set, is below the bound and not far below.
#[test]
fn apply_error_bounds_what_is_measured() {
    for b in [1, 2, 8, 32] {
        let n = 2 * b;
        let stage = |seed: u64| {
            let blocks: Vec<c64> = (0..2).flat_map(|j| unitary(b, seed + j)).collect();
            (StageLayout::contiguous(b, 2), Source::<c32>::Fixed(blocks.into()))
        };
        let plan = Plan::from_stages(n, [stage(1), stage(5), stage(9)]).unwrap();
        let factors = plan.realize::<f64>(&[]).unwrap();
        let bound = certificate(&plan, &factors).unwrap().apply_error;
        let wide = random(40 * n, 77);
        let x: Vec<c32> = wide.iter().map(|&x| c32::from_wide(x)).collect();
        let norm = |x: &mut dyn Iterator<Item = c64>| x.map(|x| x.norm_sqr()).sum::<f64>().sqrt();
        for op in Op::ALL {
            let (exact, mut worst) = (dense::apply(&plan, &factors, &wide, op).unwrap(), 0.0f64);
            for isa in Isa::available() {
                let (mut y, mut ws) = (x.clone(), Workspace::with_isa(isa).unwrap());
                plan.apply_in_place(&factors, BatchMut::rows(&mut y, n).unwrap(), op, Parallelism::None, &mut ws)
                    .unwrap();
                for v in (0..40).map(|v| v * n..(v + 1) * n) {
                    let pairs = y[v.clone()].iter().zip(&exact[v.clone()]);
                    let error = norm(&mut pairs.map(|(y, e)| y.to_wide() - e));
                    worst = worst.max(error / norm(&mut wide[v].iter().copied()));
                }
            }
            println!("b={b} {op:?}: bound {bound:.2e}, measured {worst:.2e}, factor {:.0}", bound / worst);
            assert!(worst <= bound && bound <= 16.0 * b as f64 * worst, "{b} {op:?}: {worst:e} {bound:e}");
        }
    }
}

fn applies_keep_lengths_and_belong_together<T: Scalar<Wide = c64>>() {
    for (name, plan) in plans::<T>() {
        let factors = plan.realize(&reals(plan.num_params(), 7)).unwrap();
        let found = adjoint(&plan, &factors, 3).unwrap();
        assert!(found < 1.0, "{name}: {found}");
        for op in Op::ALL {
            let found = isometry(&plan, &factors, op, 1).unwrap();
            assert!(found.norm < 1.0 && found.inner < 1.0, "{name} {op:?}: {found:?}");
        }
    }
}

#[test]
fn isometry_and_adjoint_of_unitary_plans() {
    applies_keep_lengths_and_belong_together::<c64>();
    applies_keep_lengths_and_belong_together::<c32>();
    // A phase keeps lengths; a factor of another modulus does not, whichever part it is in.
    for factor in [complex(0.0, 1.0 + 1e-6), complex(1.0 + 1e-6, 0.0)] {
        let source = Source::Fixed(vec![factor; 4].into());
        let plan = Plan::<c64>::from_stages(4, [(StageLayout::contiguous(1, 4), source)]).unwrap();
        let found = isometry(&plan, &plan.realize::<f64>(&[]).unwrap(), Op::None, 1).unwrap();
        assert!(found.norm > 1e9 && found.inner > 1e6, "{found:?}");
    }
}

/// The dense matrix of a unitary plan is unitary; its entries are complex, and their transpose is not their inverse.
#[test]
fn dense_matrices_are_unitary_and_not_orthogonal() {
    for (name, plan) in plans::<c64>() {
        let factors = plan.realize(&reals(plan.num_params(), 7)).unwrap();
        let (n, q) = (plan.n(), dense::matrix(&plan, &factors).unwrap());
        assert!(orthogonality_ratio(n, n, &q).unwrap() < 1.0, "{name}");
        let bilinear = (0..n).map(|k| q[k * n] * q[k * n]).sum::<c64>(); // (QᵀQ)₀₀
        assert!((bilinear - 1.0).norm() > 1e-3, "{name}: {bilinear}");
    }
    let mut g = Generator::new(1);
    let damaged: Vec<c64> = unitary(20, 3).into_iter().map(|x| x * (1.0 + 1e-9 * g.uniform())).collect();
    assert!(orthogonality_ratio(20, 20, &damaged).unwrap() > 1e4);
}
